"""Accuracy on multiple-choice examples, by log-likelihood of the choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.functional import log_softmax

from qpruner_core.data import ChoiceExample


@torch.no_grad()
def choice_accuracy(
    model: nn.Module, examples: Sequence[ChoiceExample], on_example: Callable[[int, int], None]
) -> tuple[float, float]:
    """Share of examples whose right choice has the highest summed log-likelihood (``acc``), and its standard error."""
    right = 0
    for index, example in enumerate(examples):
        scores = [_log_likelihood(model, example.context_ids, choice) for choice in example.choice_ids]
        right += int(max(range(len(scores)), key=scores.__getitem__) == example.label)
        on_example(index + 1, len(examples))
    share = right / len(examples)
    return share, math.sqrt(share * (1 - share) / max(len(examples) - 1, 1))


def _log_likelihood(model: nn.Module, context: Sequence[int], choice: Sequence[int]) -> float:
    ids = torch.tensor([[*context, *choice]], device=next(model.parameters()).device)
    logits = model(input_ids=ids, use_cache=False).logits[0, -len(choice) - 1 : -1].float()
    wanted = ids[0, -len(choice) :].unsqueeze(1)
    return float(log_softmax(logits, dim=-1).gather(1, wanted).sum())
