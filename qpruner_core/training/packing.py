"""Whether a model keeps the examples of one row separate."""

from __future__ import annotations

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from qpruner_core.data import Example
from qpruner_core.data.tokenization import IGNORED
from qpruner_core.training.batches import make_batch
from qpruner_core.training.losses import hidden_states

_LENGTH = 8
_FIRST = 2
_TOLERANCE = 0.02  # of rounding: experts may be grouped differently


@torch.no_grad()
def keeps_examples_apart(model: PreTrainedModel | PeftModel) -> bool:
    """Whether an example after another in a row is read as if alone, measured on one.

    transformers builds the mask from position ids; not every attention supports such a mask. The preceding example must
    make no difference, and the first tokens must be as without it: bfloat16 rounding may grow from token to token, so
    that later tokens of a correct model differ by half.
    """
    example = torch.arange(_LENGTH, 0, -1)
    training = model.training
    model.eval()
    try:
        alone = _read(model, [], example)
        packed = _read(model, [torch.arange(1, 1 + _LENGTH)], example)
        behind_another = _read(model, [torch.arange(2, 2 + _LENGTH)], example)
    finally:
        model.train(training)
    return _equal(packed, behind_another) and _equal(packed[:_FIRST], alone[:_FIRST])


def _read(model: PreTrainedModel | PeftModel, before: list[torch.Tensor], example: torch.Tensor) -> torch.Tensor:
    """Hidden states of ``example`` after ``before`` in one row."""
    row = [Example(ids, torch.full_like(ids, IGNORED)) for ids in before] + [Example(example, example)]
    return hidden_states(model, make_batch([row], model.device)).float()


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return bool((first - second).norm() <= _TOLERANCE * second.norm())
