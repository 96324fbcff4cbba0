"""QERA (arXiv 2410.06040): the adapter with the least error in the layer's output."""

from __future__ import annotations

import torch

from qpruner_core.fitting.initialisations.base import factors, truncated_svd
from qpruner_core.forward.input_moments import InputMoments

_COLUMNS_AT_ONCE = 192
_LEAST_SCALE = 1e-4
"""Lower clamp of an input's scale, as a share of the largest."""


def qera(
    error: torch.Tensor, input_scale: torch.Tensor | None, *, rank: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """``B·A = SVD_rank(error·S)·S⁻¹`` with ``S = diag(input_scale)``; see :class:`Initialisation`.

    Minimises ``E‖(error − B·A)·x‖²`` over uncorrelated inputs ``x`` (QERA-approx, theorem 2): an error in a column
    counts by the scale of its input.
    """
    if input_scale is None:
        raise ValueError("qera needs the scale of the inputs")
    scale = input_scale.to(error.device, torch.float32)
    scale = scale.clamp(min=_LEAST_SCALE * scale.max()) if scale.any() else torch.ones_like(scale)
    u, s, v = truncated_svd(error * scale, rank, seed)
    return factors(u, s, v / scale.unsqueeze(1), rank)


def qera_exact(
    error: torch.Tensor, moments: InputMoments, *, rank: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``A`` and ``B`` with ``B·A = SVD_rank(error·root)·root⁻¹``, where ``root·rootᵀ`` is the moments of the inputs.

    Minimises the error for correlated inputs (QERA-exact, theorem 1; any square root of the moments works).
    """
    u, s, v = truncated_svd(_times_upper(error.index_select(1, moments.order), moments.root), rank, seed)
    inputs = torch.empty_like(v)
    inputs[moments.order] = moments.inverse_root.T @ v
    return factors(u, s, inputs, rank)


def _times_upper(matrix: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """``matrix @ upper`` for a triangular ``upper``, skipping most of the zeros."""
    product = torch.empty_like(matrix)
    for start in range(0, len(upper), _COLUMNS_AT_ONCE):
        columns = slice(start, start + _COLUMNS_AT_ONCE)
        product[:, columns] = matrix[:, : columns.stop] @ upper[: columns.stop, columns]
    return product
