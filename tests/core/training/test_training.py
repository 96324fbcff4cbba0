from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from qpruner_core.errors import NotFiniteError, TrainingDivergedError
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.training.batches import batches, in_batches, make_batch
from qpruner_core.training.losses import Distillation
from qpruner_core.training.schedule import learning_rate
from qpruner_core.training.training import Validation, train
from qpruner_core.training.training_state import TrainingState
from qpruner_core.training.validation import keep_back, validation_loss
from tests.core.small_models import small_model
from tests.core.training.adapters import CPU, adapted_model, example

EXAMPLES = [example(12), example(9)]


def trained(adapter: Path, *, distil: bool = False, **settings: object) -> list[float]:
    usual = FinetuneConfig(steps=8, batch_size=2, learning_rate=0.02, warmup_steps=0)
    finetune = usual.model_copy(update=settings)  # of whatever bounds
    model = adapted_model(adapter, finetune.dropout)
    losses: list[float] = []
    stream = batches(EXAMPLES, finetune.batch_size, seed=0, device=CPU)
    distillation = Distillation(small_model("llama", dtype=torch.bfloat16, seed=1)) if distil else None
    train(model, stream, finetune, lambda step, loss: losses.append(loss), distillation=distillation)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    return losses


@pytest.mark.parametrize("distil", [False, True])
def test_training_lowers_the_loss(distil: bool, adapter: Path) -> None:
    losses = trained(adapter, distil=distil)
    assert len(losses) == 8
    assert losses[-1] < 0.95 * losses[0]


def test_only_the_adapter_learns(adapter: Path) -> None:
    model = adapted_model(adapter)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = FinetuneConfig(steps=2, learning_rate=0.02, warmup_steps=0)
    train(model, batches(EXAMPLES, 2, seed=0, device=CPU), settings, lambda step, loss: None)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name].to(value))}
    assert changed == {name for name in before if ".lora_" in name}


def test_dropout_takes_part_in_training(adapter: Path) -> None:
    assert trained(adapter, dropout=0.5) != trained(adapter)


def test_accumulated_batches_weigh_every_token_alike(adapter: Path) -> None:
    together = trained(adapter, batch_size=2, gradient_accumulation=1, steps=1)
    apart = trained(adapter, batch_size=1, gradient_accumulation=2, steps=1)
    assert apart == pytest.approx(together, rel=0.01)


def test_activations_computed_twice_teach_the_same(adapter: Path) -> None:
    assert trained(adapter, activation_checkpointing=True, dropout=0.3) == trained(adapter, dropout=0.3)


def test_activation_checkpointing_keeps_fewer_activations(adapter: Path) -> None:
    def kept(checkpointing: bool) -> int:
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        model = adapted_model(adapter)
        settings = FinetuneConfig(steps=1, activation_checkpointing=checkpointing)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            train(model, batches(EXAMPLES, 2, seed=0, device=CPU), settings, lambda step, loss: None)
        return sum(sizes)

    assert kept(True) < kept(False) / 2


def test_the_best_evaluation_is_kept_and_training_ends_when_none_is_better(adapter: Path) -> None:
    settings = FinetuneConfig(
        steps=60, learning_rate=0.03, warmup_steps=0, schedule="constant", evaluate_every=2, patience=2
    )
    model = adapted_model(adapter)
    validation = in_batches([example(12, first=40)], 1, CPU)  # what is learned is of no use to it
    told: list[tuple[int, float]] = []
    state = train(
        model, batches(EXAMPLES, 2, seed=0, device=CPU), settings, lambda step, loss: None,
        validation=Validation(validation, lambda step, loss: told.append((step, loss))),
    )  # fmt: skip
    assert told == state.curves.validation
    assert told[0][0] == 0
    best_step, best_loss = min(told, key=lambda point: point[1])
    assert state.curves.step == best_step + 2 * 2 < 60
    assert validation_loss(model, validation) == pytest.approx(best_loss, rel=1e-6)
    assert told[-1][1] > best_loss


def test_a_distilled_model_is_kept_where_it_is_nearest_to_its_teacher(adapter: Path) -> None:
    settings = FinetuneConfig(steps=6, learning_rate=0.03, warmup_steps=0, schedule="constant", evaluate_every=2)
    model, held_out = adapted_model(adapter), in_batches([example(12, first=40)], 1, CPU)
    teacher = Distillation(small_model("llama", dtype=torch.bfloat16, seed=1), temperature=2.0)
    softened = [
        log_softmax(one(held_out[0].input_ids).logits[0, :-1].float() / 2, -1) for one in (model, teacher.teacher)
    ]
    state = train(
        model, batches(EXAMPLES, 2, seed=0, device=CPU), settings, lambda step, loss: None,
        distillation=teacher, validation=Validation(held_out),
    )  # fmt: skip
    expected = 4 * kl_div(*softened, reduction="sum", log_target=True).item() / len(softened[0])
    assert state.curves.validation[0][1] == pytest.approx(expected, rel=0.02)
    assert validation_loss(model, held_out, teacher) == pytest.approx(state.curves.best[1], rel=1e-6)


def test_a_model_that_predicts_nan_is_not_blamed_on_the_learning_rate(adapter: Path) -> None:
    model = adapted_model(adapter)
    model.get_base_model().model.norm.weight.data[0] = float("nan")
    with pytest.raises(NotFiniteError) as caught:
        train(model, batches(EXAMPLES, 2, seed=0, device=CPU), FinetuneConfig(steps=3), lambda step, loss: None)
    assert caught.value.field == "model"
    with pytest.raises(NotFiniteError):
        train(
            model, iter([]), FinetuneConfig(steps=3), lambda step, loss: None,
            validation=Validation([make_batch([EXAMPLES], CPU)]),
        )  # fmt: skip


def test_a_loss_that_explodes_is_told_with_its_step_and_the_remedy(adapter: Path) -> None:
    with pytest.raises(TrainingDivergedError) as caught:
        trained(adapter, learning_rate=1e30)
    assert caught.value.field == "finetune.learning_rate"
    assert "after 1 steps" in caught.value.message


@pytest.mark.parametrize(("dropout", "stops"), [(0.0, (5,)), (0.3, (1, 4, 5, 9))])
def test_a_training_that_goes_on_gives_the_same_bytes(
    dropout: float, stops: tuple[int, ...], adapter: Path, tmp_path: Path
) -> None:
    settings = FinetuneConfig(
        steps=10, learning_rate=0.02, warmup_steps=3, dropout=dropout, evaluate_every=4, gradient_accumulation=2
    )
    validation = in_batches([example(12, first=40)], 1, CPU)

    def run(state_directory: Path, stop_at: int) -> list[torch.Tensor]:
        model = adapted_model(adapter, dropout)
        state = TrainingState(model, settings)
        state.load(state_directory, "key")

        def on_step(step: int, loss: float) -> None:
            state.save(state_directory, "key")
            if step == stop_at:
                raise KeyboardInterrupt

        first = 2 * state.curves.step
        stream = batches(EXAMPLES, 1, seed=0, device=CPU, packed_length=24, first=first)
        train(model, stream, settings, on_step, validation=Validation(validation), state=state, seed=5)
        return [*state.factors, *state.masters, torch.tensor(state.curves.losses)]

    expected = run(tmp_path / "undisturbed", 0)
    for stop in stops:
        place = tmp_path / f"stopped-at-{stop}"
        with pytest.raises(KeyboardInterrupt):
            run(place, stop)
        found = run(place, 0)
        assert len(found) == len(expected)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True)), stop


def test_a_saved_state_of_other_settings_or_a_damaged_one_is_not_used(adapter: Path, tmp_path: Path) -> None:
    model = adapted_model(adapter)
    state = TrainingState(model, FinetuneConfig())
    state.curves.step = 3
    state.save(tmp_path / "state", "key")
    assert not TrainingState(model, FinetuneConfig()).load(tmp_path / "state", "other key")
    assert not TrainingState(model, FinetuneConfig()).load(tmp_path / "nowhere", "key")
    fresh = TrainingState(model, FinetuneConfig())
    assert fresh.load(tmp_path / "state", "key")
    assert fresh.curves.step == 3
    (file,) = (tmp_path / "state").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    fresh = TrainingState(model, FinetuneConfig())
    assert not fresh.load(tmp_path / "state", "key")
    assert fresh.curves.step == 0


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_schedules_are_those_of_transformers_a_step_ahead_in_warm_up(name: str) -> None:
    settings = FinetuneConfig(steps=30, warmup_steps=5, schedule=name, learning_rate=0.1)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    make = get_cosine_schedule_with_warmup if name == "cosine" else get_linear_schedule_with_warmup
    schedule = make(optimizer, 5, 30)
    rates = []
    for _ in range(30):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert [learning_rate(settings, step) for step in range(5, 30)] == pytest.approx(rates[5:])
    warm_up = [learning_rate(settings, step) for step in range(6)]
    assert warm_up == pytest.approx([0.1 * part / 6 for part in range(1, 7)])


def test_the_constant_schedule_stays() -> None:
    settings = FinetuneConfig(steps=30, warmup_steps=0, schedule="constant", learning_rate=0.1)
    assert {learning_rate(settings, step) for step in range(30)} == {0.1}


def test_what_is_kept_back_is_never_trained_on_not_even_as_a_copy() -> None:
    examples = [example(5, first=first) for first in range(1, 41)] * 2
    train, validation = keep_back(examples, 6, seed=3)
    assert len(validation) == 6
    ids = {tuple(each.input_ids.tolist()) for each in validation}
    assert not ids & {tuple(each.input_ids.tolist()) for each in train}
    assert len(train) == 80 - 2 * len(ids)
    again = keep_back(examples, 6, seed=3)[1]
    assert [each.input_ids.tolist() for each in again] == [each.input_ids.tolist() for each in validation]


def test_at_most_a_tenth_is_kept_back() -> None:
    assert len(keep_back([example(5, first=first) for first in range(30)], 16, seed=0)[1]) == 3
    assert keep_back([example(5)] * 9, 16, seed=0)[1] == []
    assert len(keep_back([example(5)] * 50, 5, seed=0)[0]) == 50  # all alike: there would be nothing to train on
