"""Whether a model keeps the examples of one row apart."""

from __future__ import annotations

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from qpruner_core.data import Example
from qpruner_core.data.tokenization import IGNORED
from qpruner_core.finetune.batches import make_batch
from qpruner_core.finetune.losses import hidden_states

_LENGTH = 8
_TOLERANCE = 0.02  # of rounding: experts may be grouped otherwise


@torch.no_grad()
def keeps_examples_apart(model: PreTrainedModel | PeftModel) -> bool:
    """Whether an example behind another in a row is read as it is alone, measured on one.

    transformers builds the mask from position ids; not every attention can have such a mask.
    """
    before, example = torch.arange(1, 1 + _LENGTH), torch.arange(_LENGTH, 0, -1)
    nothing = torch.full_like(before, IGNORED)
    training = model.training
    model.eval()
    try:
        alone = hidden_states(model, make_batch([[Example(example, example)]], model.device)).float()
        row = [Example(before, nothing), Example(example, example)]
        packed = hidden_states(model, make_batch([row], model.device)).float()
    finally:
        model.train(training)
    return bool((packed - alone).norm() <= _TOLERANCE * alone.norm())
