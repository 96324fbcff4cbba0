from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import PreTrainedModel

from qpruner_core.forward.prefix import PrefixForward
from qpruner_core.models.families import family_names, family_of
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (2, 16), generator=torch.Generator().manual_seed(0))
PLENTY = 10**8
ONE_STATE = 16 * 48 * 2  # bytes of what enters a layer, for one sequence


@contextmanager
def run_layers(model: PreTrainedModel) -> Iterator[list[int]]:
    """The layers whose linear modules computed, in order."""
    ran: list[int] = []
    family = family_of(model)
    hooks = [
        family.linears_of(layer)[0].register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, layer in enumerate(family.decoder_layers(model))
    ]
    yield ran
    for hook in hooks:
        hook.remove()


def change(model: PreTrainedModel, layer: int) -> None:
    for parameter in family_of(model).decoder_layers(model)[layer].parameters():
        parameter.data.mul_(1.1)


@pytest.mark.parametrize("name", family_names())
def test_layers_before_the_first_changed_one_are_not_run_and_logits_are_exact(name: str) -> None:
    model = small_model(name, dtype=torch.bfloat16)
    forward = PrefixForward(model, family_of(model), IDS, capacity=PLENTY)
    with torch.no_grad():
        before = model(IDS[:1]).logits[0]
        assert torch.equal(forward.logits(0, "eaaaaa"), before)
        change(model, 3)
        after = model(IDS[:1]).logits[0]
    assert not torch.equal(after, before)
    for states in ("eaaaba", "eaaaca"):  # twice from one kept input: running a layer leaves it as it was
        with run_layers(model) as ran:
            assert torch.equal(forward.logits(0, states), after)
        assert ran == [3, 4]


def test_a_model_that_began_like_an_earlier_one_starts_where_they_part() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    forward = PrefixForward(model, family_of(model), IDS, capacity=PLENTY)
    before = forward.logits(0, "eaaaaa")
    layer = family_of(model).decoder_layers(model)[1]
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    change(model, 1)
    assert not torch.equal(forward.logits(0, "eabaaa"), before)
    layer.load_state_dict(kept)
    with run_layers(model) as ran:
        assert torch.equal(forward.logits(0, "eaaaaa"), before)
    assert ran == [4]


def test_changed_embeddings_and_other_sequences_are_computed_whole() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    forward = PrefixForward(model, family_of(model), IDS, capacity=PLENTY)
    forward.logits(0, "eaaaaa")
    model.get_input_embeddings().weight.data.mul_(1.1)
    assert torch.equal(forward.logits(0, "faaaaa"), model(IDS[:1]).logits[0])
    assert torch.equal(forward.logits(1, "faaaaa"), model(IDS[1:]).logits[0])


def test_without_states_nothing_is_taken_from_before() -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    forward = PrefixForward(model, family_of(model), IDS, capacity=PLENTY)
    forward.logits(0, "eaaaaa")
    change(model, 0)
    assert torch.equal(forward.logits(0), model(IDS[:1]).logits[0])


@pytest.mark.parametrize(("capacity", "ran_again"), [(0, [0, 1, 2, 3, 4]), (7 * ONE_STATE, [3, 4]), (PLENTY, [4])])
def test_the_less_room_the_fewer_inputs_are_kept(capacity: int, ran_again: list[int]) -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    forward = PrefixForward(model, family_of(model), IDS, capacity=capacity)
    for sequence in (0, 1):
        forward.logits(sequence, "eaaaaa")
    change(model, 4)
    for sequence in (0, 1):
        with run_layers(model) as ran:
            assert torch.equal(forward.logits(sequence, "eaaaab"), model(IDS[sequence : sequence + 1]).logits[0])
        assert ran[: len(ran_again)] == ran_again
    assert forward.kept_bytes <= capacity
