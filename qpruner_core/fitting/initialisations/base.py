"""What an initialisation answers: the factors of a layer's adapter, from what quantization took of its weight."""

from __future__ import annotations

from typing import Protocol

import torch

_OVERSAMPLING = 8
_POWER_ITERATIONS = 4


class Initialisation(Protocol):
    """A way to begin an adapter."""

    def __call__(
        self, error: torch.Tensor, input_scale: torch.Tensor | None, *, rank: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Factors ``A [rank, in]`` and ``B [out, rank]`` (float32) whose product ``B·A`` makes up for ``error``.

        ``None``: for nothing, so that there is nothing to alternate with.

        Args:
            error: the weight less what its quantized module multiplies with, float32 ``[out, in]``.
            input_scale: root mean square of each input on calibration text, float32 ``[in]``; ``None``: not measured.
        """
        ...


def truncated_svd(matrix: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``U [rows, k]``, ``S [k]`` and ``V [columns, k]`` of the first ``k = min(rank, *matrix.shape)`` singular values.

    By random projection with power iterations (Halko, Martinsson and Tropp, arXiv 0909.4061). Random numbers follow
    from ``seed`` alone; the global generators are left as they were.
    """
    size = min(rank, *matrix.shape)
    devices = [matrix.device] if matrix.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed also seeds GPUs; for each kind that is not in use it keeps a traceback for good
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
