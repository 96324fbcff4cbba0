from __future__ import annotations

import math

import pytest
import torch

from qpruner_core.data import ChoiceExample
from qpruner_core.errors import NotFiniteError
from qpruner_core.measure import speed
from qpruner_core.measure.choices import choice_accuracy
from qpruner_core.measure.perplexity import perplexity
from qpruner_core.measure.speed import tokens_per_second
from tests.core.small_models import small_model

WINDOWS = torch.randint(0, 97, (3, 16), generator=torch.Generator().manual_seed(0))


def nobody(done: int, total: int) -> None:
    """Nobody watches."""


def test_perplexity_is_the_exponential_of_the_mean_loss_of_every_predicted_token() -> None:
    model = small_model("llama", dtype=torch.float32)
    with torch.no_grad():
        losses = [model(input_ids=window[None], labels=window[None]).loss.item() for window in WINDOWS]
    assert perplexity(model, WINDOWS, nobody) == pytest.approx(math.exp(sum(losses) / 3), rel=1e-4)


@pytest.mark.parametrize("length", [16, 200, 600])
def test_windows_measured_together_give_what_each_gives_alone(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qpruner_core.measure.perplexity._LOGITS", 97 * 400)  # all five, two, or one at a time
    model = small_model("llama", dtype=torch.float32, max_position_embeddings=1024)
    windows = torch.randint(0, 97, (5, length), generator=torch.Generator().manual_seed(1))
    together, alone, done = [], [], []
    found = perplexity(model, windows, lambda *progress: done.append(progress), together.append)
    each = [perplexity(model, window[None], nobody, alone.append) for window in windows]
    assert math.log(found) == pytest.approx(sum(math.log(one) for one in each) / 5, rel=1e-5)
    assert done == [(number, 5) for number in range(1, 6)]
    torch.testing.assert_close(torch.stack(together), torch.stack(alone), rtol=1e-4, atol=1e-4)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() -> None:
    model = small_model("llama", dtype=torch.float32)
    model.get_output_embeddings().weight.data.zero_()
    assert perplexity(model, WINDOWS, nobody) == pytest.approx(97, rel=1e-5)


def test_predictions_that_are_not_numbers_are_an_error_that_says_so() -> None:
    model = small_model("llama", dtype=torch.float32)
    model.get_output_embeddings().weight.data[5] = float("nan")
    with pytest.raises(NotFiniteError) as caught:
        perplexity(model, WINDOWS, nobody)
    assert caught.value.remedy


def test_accuracy_is_the_share_of_examples_whose_right_choice_is_likeliest() -> None:
    model = small_model("llama", dtype=torch.float32)
    examples = []
    for context in ([1, 2, 3], [4, 5], [6, 7, 8]):
        with torch.no_grad():
            likeliest = int(model(torch.tensor([context])).logits[0, -1].argmax())
            unlikeliest = int(model(torch.tensor([context])).logits[0, -1].argmin())
        examples.append(ChoiceExample(context_ids=context, choice_ids=[[unlikeliest], [likeliest]], label=1))
    wrong = ChoiceExample(context_ids=examples[0].context_ids, choice_ids=examples[0].choice_ids, label=0)
    share, error = choice_accuracy(model, [*examples, wrong], nobody)
    assert share == 0.75
    assert error == pytest.approx(math.sqrt(0.75 * 0.25 / 3))


def test_a_choice_of_several_tokens_is_scored_by_all_of_them() -> None:
    model = small_model("llama", dtype=torch.float64)
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        log_probabilities = model(ids).logits[0].log_softmax(-1)
    first = sum(log_probabilities[position, ids[0, position + 1]].item() for position in (2, 3))
    second = log_probabilities[2, 9].item()
    label = int(second > first)
    example = ChoiceExample(context_ids=[1, 2, 3], choice_ids=[[4, 5], [9]], label=label)
    assert choice_accuracy(model, [example], nobody)[0] == 1.0


@pytest.mark.parametrize(("length", "asked", "prompt", "generated"), [(1, 3, 1, 3), (30, 8, 24, 8), (4, 90, 1, 31)])
def test_speed_is_that_of_the_tokens_generated_behind_the_warm_up(
    length: int, asked: int, prompt: int, generated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of 32 positions; the clock advances by a second for each pass through it."""
    model = small_model("qwen2", dtype=torch.float32, max_position_embeddings=32)
    read: list[int] = []
    model.model.register_forward_pre_hook(
        lambda module, args, given: read.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(len(read)))

    found = tokens_per_second(model, WINDOWS[0].repeat(4)[:length], asked)

    assert read == [prompt, 1, prompt, *[1] * (generated - 1)]  # two tokens of warm-up
    assert found == 1.0
