"""Importance of the experts of a sparse layer from their contribution to its output (REAP, arXiv 2510.13999, equation
9)."""

from __future__ import annotations

import torch
from torch import nn

from qpruner_core.models.families import Family


def experts_path(family: Family, layer: nn.Module) -> str | None:
    """Path of the module of ``layer`` that holds the stacked weights of its experts; ``None`` in a dense layer."""
    for cut in family.cuts(layer):
        if cut.axis == "expert" and cut.tensor.dim() == 3:
            return cut.parameter.rpartition(".")[0]
    return None


class ExpertOutputs:
    """Routing weight times the norm of the expert's output, averaged over its routed tokens.

    An expert without routed tokens has importance 0.
    """

    def __init__(self, num_experts: int) -> None:
        self.sums = torch.zeros(num_experts, dtype=torch.float64)
        self.counts = torch.zeros(num_experts, dtype=torch.int64)

    def hook(self, experts: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        """Forward pre-hook of the experts' module with the inputs of transformers' experts: hidden states ``[tokens,
        hidden]``, indices and weights of the experts of each token ``[tokens, chosen]``."""
        states, chosen, weights = inputs
        for expert in chosen.unique().tolist():
            if expert >= len(self.sums):  # marks a masked choice
                continue
            tokens, rank = torch.where(chosen == expert)
            alone = torch.full_like(chosen[tokens, :1], expert)
            outputs = experts.forward(states[tokens], alone, torch.ones_like(weights[tokens, :1]))
            norms = torch.linalg.vector_norm(outputs.double(), dim=-1)
            self.sums[expert] += (weights[tokens, rank].double() * norms).sum().cpu()
            self.counts[expert] += len(tokens)

    def importance(self) -> torch.Tensor:
        """The mean of each expert, float64 ``[experts]``."""
        return self.sums / self.counts.clamp(min=1)
