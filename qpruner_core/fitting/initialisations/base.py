"""Interface of an adapter initialisation: factors of an adapter from the quantization error of a weight."""

from __future__ import annotations

from typing import Protocol

import torch

_OVERSAMPLING = 8
_POWER_ITERATIONS = 4


class Initialisation(Protocol):
    """An adapter initialisation."""

    def __call__(
        self, error: torch.Tensor, input_scale: torch.Tensor | None, *, rank: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Factors ``A [rank, in]`` and ``B [out, rank]`` (float32) whose product ``B·A`` approximates ``error``.

        Returns ``None`` if it approximates nothing, so that there is nothing to alternate with.

        Args:
            error: the weight minus the effective weight of its quantized module, float32 ``[out, in]``.
            input_scale: root mean square of each input on calibration text, float32 ``[in]``; ``None``: not measured.
        """
        ...


def truncated_svd(matrix: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``U [rows, k]``, ``S [k]`` and ``V [columns, k]`` of the first ``k = min(rank, *matrix.shape)`` singular values.

    By random projection with power iterations (Halko, Martinsson and Tropp, arXiv 0909.4061). Random numbers depend on
    ``seed`` alone; the global generators are unchanged.
    """
    size = min(rank, *matrix.shape)
    devices = [matrix.device] if matrix.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed also seeds GPUs; for each unused kind it keeps a traceback forever
        (torch.manual_seed if devices else torch.default_generator.manual_seed)(seed)
        width = min(size + _OVERSAMPLING, *matrix.shape)
        u, s, v = torch.svd_lowrank(matrix, q=width, niter=_POWER_ITERATIONS)
    return u[:, :size], s[:size], v[:, :size]


def factors(u: torch.Tensor, s: torch.Tensor, v: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``A [rank, in]`` and ``B [out, rank]`` with ``B·A = U·diag(S)·Vᵀ``, singular values shared evenly; rows and
    columns beyond those of ``S`` are zero."""
    root = s.sqrt()
    a = torch.zeros(rank, len(v))
    b = torch.zeros(len(u), rank)
    a[: len(s)] = (v * root).T.cpu()
    b[:, : len(s)] = (u * root).cpu()
    return a, b
