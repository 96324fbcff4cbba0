from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from bench.study.tasks import read_task, score_choices, score_task
from qpruner_core.data.tokenization import ChoiceExample
from qpruner_core.errors import DatasetNotFoundError
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer

EXAMPLES = [
    ChoiceExample([5, 6, 7, 8], [[9, 10, 11], [12], [13, 14]], 0),
    ChoiceExample([20], [[21, 22, 23, 24, 25, 26]], 0),
    ChoiceExample(list(range(30, 50)), [[51, 52], [51, 53]], 1),
]


def _alone(model: PreTrainedModel, context: list[int], choice: list[int]) -> tuple[float, bool]:
    """The score of one choice in a row of its own, through the whole model."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([context + choice]), use_cache=False).logits[0, len(context) - 1 : -1]
    wanted = torch.tensor(choice)
    return (
        float(log_softmax(logits, dim=-1).gather(1, wanted.unsqueeze(1)).sum()),
        bool((logits.argmax(dim=-1) == wanted).all()),
    )


@pytest.mark.parametrize("batch_tokens", [1, 30, 1000])
def test_choices_packed_behind_one_context_score_as_each_in_a_row_of_its_own(batch_tokens: int) -> None:
    model = small_model("llama")

    found = score_choices(model, EXAMPLES, batch_tokens=batch_tokens)

    for example, scores in zip(EXAMPLES, found, strict=True):
        for choice, score in zip(example.choice_ids, scores, strict=True):
            log_likelihood, greedy = _alone(model, example.context_ids, choice)
            assert score.log_likelihood == pytest.approx(log_likelihood, abs=1e-5)
            assert score.greedy == greedy


def test_what_the_model_would_say_counts_as_a_greedy_match() -> None:
    model = small_model("llama")
    context = [5, 6, 7]
    said: list[int] = []
    with torch.no_grad():
        for _ in range(3):
            said.append(int(model(input_ids=torch.tensor([context + said])).logits[0, -1].argmax()))

    (scores,) = score_choices(model, [ChoiceExample(context, [said, [*said[:2], (said[2] + 1) % 97]], 0)])

    assert [score.greedy for score in scores] == [True, False]


def test_a_task_of_choices_has_both_accuracies_and_their_standard_errors(tmp_path: Path) -> None:
    file = _task_file(tmp_path, [{"context": "The sky is", "choices": ["blue", "a long grey road"], "label": 0}] * 3)
    examples = read_task(file, build_tokenizer(tmp_path), 2)

    measures = score_task(small_model("llama", vocab_size=300), examples)

    assert len(examples) == 2
    assert examples[0].characters == (4, 16)
    assert set(measures) == {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr"}
    assert measures["acc"] in (0.0, 1.0)  # both examples are the same
    assert measures["acc_stderr"] == 0.0


def test_a_task_of_one_choice_has_greedy_accuracy_and_the_perplexity_of_the_whole_choice(tmp_path: Path) -> None:
    model = small_model("llama", vocab_size=300)
    file = _task_file(tmp_path, [{"context": "The sky is", "choices": ["blue"], "label": 0}])
    examples = read_task(file, build_tokenizer(tmp_path), 5)

    measures = score_task(model, examples)

    choices = examples[0].choices
    log_likelihood, _ = _alone(model, choices.context_ids, choices.choice_ids[0])
    assert torch.tensor(measures["perplexity"]).log().item() == pytest.approx(-log_likelihood, rel=1e-4)
    assert measures["acc"] in (0.0, 1.0)


def test_a_missing_task_file_says_where_tasks_lie(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="piqa"):
        read_task(tmp_path / "eval" / "piqa.jsonl", build_tokenizer(tmp_path), 5)


def _task_file(directory: Path, rows: list[dict[str, object]]) -> Path:
    file = directory / "task.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return file
