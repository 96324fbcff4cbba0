"""LoftQ (arXiv 2310.08659): the adapter nearest to the error of the weight."""

from __future__ import annotations

import torch

from qpruner_core.fitting.initialisations.base import factors, truncated_svd


def loftq(
    error: torch.Tensor, input_scale: torch.Tensor | None, *, rank: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Truncated SVD of ``error``: minimises ``‖error − B·A‖`` for any inputs; see :class:`Initialisation`."""
    return factors(*truncated_svd(error, rank, seed), rank)
