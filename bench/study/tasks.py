"""Zero-shot scores on multiple-choice tasks and on LAMBADA, by log-likelihood of the choices.

All choices of an example stand behind their context in one row. An attention mask and positions of their own keep
them from seeing each other, so that the context is computed once and every number is that of a row of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qpruner_core.data.records import ChoicesRecord
from qpruner_core.data.tokenization import ChoiceExample, encode_choices, start_ids
from qpruner_core.errors import DatasetNotFoundError

TASKS = {"LAMBADA": "lambada", "PIQA": "piqa", "ARC-easy": "arc_easy", "HellaSwag": "hellaswag"}
"""Name -> file under ``eval/`` of the data folder."""

_LONGEST = 2048
_BATCH_TOKENS = 1024


@dataclass(frozen=True)
class TaskExample:
    """An example ready to be scored; ``characters``: the length of each choice, which ``acc_norm`` divides by."""

    choices: ChoiceExample
    characters: tuple[int, ...]


@dataclass(frozen=True)
class ChoiceScore:
    """``log_likelihood`` of a choice after its context, and whether each of its tokens was the likeliest."""

    log_likelihood: float
    greedy: bool


@dataclass(frozen=True)
class _Row:
    """An example in one row: ``[context, choice, choice, …]``.

    ``branch``: 0 for the context, else the number of the choice. ``position``: of the token in its own sequence.
    ``predicts``: row position that predicts each token of the choices, in order.
    """

    ids: torch.Tensor
    branch: torch.Tensor
    position: torch.Tensor
    predicts: torch.Tensor


def read_task(path: Path, tokenizer: PreTrainedTokenizerBase, examples: int) -> list[TaskExample]:
    """The first ``examples`` of a .jsonl file of ``{context, choices, label}``.

    Raises:
        DatasetNotFoundError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[:examples]
    except OSError as error:
        raise DatasetNotFoundError(
            f"The task file {path.name} cannot be read: {error.strerror}.",
            field="data",
            remedy="The tasks lie in the folder eval under the data folder.",
        ) from error
    found = []
    for line in lines:
        values = json.loads(line)
        record = ChoicesRecord(values["context"], tuple(values["choices"]), values["label"])
        encoded = encode_choices(tokenizer, record, _LONGEST, start_ids(tokenizer))
        if encoded is not None:
            found.append(TaskExample(encoded, tuple(len(choice) for choice in record.choices)))
    return found


def score_task(model: PreTrainedModel, examples: Sequence[TaskExample]) -> dict[str, float]:
    """Measures of a task: ``acc`` and its standard error, and ``acc_norm`` (by characters) or, where an example has
    one choice, its greedy match as ``acc`` and the ``perplexity`` of the whole choice, as EleutherAI's lm-eval does."""
    scores = score_choices(model, [example.choices for example in examples])
    pairs = list(zip(examples, scores, strict=True))
    if all(len(found) == 1 for found in scores):
        acc = sum(found[0].greedy for found in scores) / len(scores)
        mean = sum(found[0].log_likelihood for found in scores) / len(scores)
        return {"acc": acc, "acc_stderr": _standard_error(acc, len(scores)), "perplexity": math.exp(min(-mean, 700.0))}
    plain = [[choice.log_likelihood for choice in found] for found in scores]
    normed = [
        [choice.log_likelihood / length for choice, length in zip(found, example.characters, strict=True)]
        for example, found in pairs
    ]
    acc, acc_norm = _accuracy(examples, plain), _accuracy(examples, normed)
    count = len(examples)
    return {
        "acc": acc, "acc_stderr": _standard_error(acc, count),
        "acc_norm": acc_norm, "acc_norm_stderr": _standard_error(acc_norm, count),
    }  # fmt: skip


def _accuracy(examples: Sequence[TaskExample], scores: Sequence[Sequence[float]]) -> float:
    right = sum(
        max(range(len(found)), key=found.__getitem__) == example.choices.label
        for example, found in zip(examples, scores, strict=True)
    )
    return right / len(examples)


def _standard_error(share: float, count: int) -> float:
    return math.sqrt(share * (1 - share) / max(count - 1, 1))


@torch.inference_mode()
def score_choices(
    model: PreTrainedModel, examples: Sequence[ChoiceExample], *, batch_tokens: int = _BATCH_TOKENS
) -> list[list[ChoiceScore]]:
    """The score of every choice of every example, in the order given.

    Args:
        model: a causal language model in eval mode that takes a four-dimensional attention mask.
        batch_tokens: tokens of a batch, padding included; a longer example is a batch of its own.
    """
    rows = [_row(example) for example in examples]
    found: dict[int, list[ChoiceScore]] = {}
    for batch in _batches([len(row.ids) for row in rows], batch_tokens):
        states = _hidden_states(model, [rows[index] for index in batch])
        for index, state in zip(batch, states, strict=True):
            found[index] = _choice_scores(model, examples[index], state[rows[index].predicts])
    return [found[index] for index in range(len(examples))]


def _row(example: ChoiceExample) -> _Row:
    context = len(example.context_ids)
    ids, branch, position = list(example.context_ids), [0] * context, list(range(context))
    predicts: list[int] = []
    for number, choice in enumerate(example.choice_ids, start=1):
        # The last token of the context predicts the first of the choice, and each of its own the next one
        predicts += [context - 1, *range(len(ids), len(ids) + len(choice) - 1)]
        ids += choice
        branch += [number] * len(choice)
        position += range(context, context + len(choice))
    return _Row(*(torch.tensor(values) for values in (ids, branch, position, predicts)))


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices of rows of nearly the same length, the longest first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _hidden_states(model: PreTrainedModel, rows: Sequence[_Row]) -> torch.Tensor:
    """The final hidden states ``[rows, longest, hidden]``; those of padding mean nothing."""
    ids = _padded([row.ids for row in rows], 0)
    branch = _padded([row.branch for row in rows], -1)
    position = _padded([row.position for row in rows], 0)
    length = ids.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    ours = (branch.unsqueeze(1) == branch.unsqueeze(2)) | (branch == 0).unsqueeze(1)
    seen = (earlier & ours).unsqueeze(1)
    mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
    device = model.device
    states: torch.Tensor = model.base_model(
        input_ids=ids.to(device), attention_mask=mask.to(device), position_ids=position.to(device), use_cache=False
    )[0]
    return states


def _padded(rows: Sequence[torch.Tensor], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _choice_scores(model: PreTrainedModel, example: ChoiceExample, states: torch.Tensor) -> list[ChoiceScore]:
    """From the hidden states before each token of the choices: only these are worth the large output matrix."""
    wanted = torch.tensor([token for choice in example.choice_ids for token in choice], device=states.device)
    log_probabilities = log_softmax(model.get_output_embeddings()(states).float(), dim=-1)
    values = log_probabilities.gather(1, wanted.unsqueeze(1)).flatten()
    likeliest = log_probabilities.argmax(dim=-1) == wanted
    lengths = [len(choice) for choice in example.choice_ids]
    return [
        ChoiceScore(float(value.sum()), bool(greedy.all()))
        for value, greedy in zip(values.split(lengths), likeliest.split(lengths), strict=True)
    ]
