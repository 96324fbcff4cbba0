"""LoftQ (arXiv 2310.08659): a quantized weight and a low-rank adapter that together stay close to the weight.

Alternates ``Q ← quantize(W − s·B·A)`` and ``s·B·A ← truncated SVD of W − dequantize(Q)``, at the layer's own precision,
where ``s = alpha / rank`` is the scaling that the adapter is applied with.
"""

from __future__ import annotations

import math

import torch

from qpruner_core.precisions import Precision, Tensors

_OVERSAMPLING = 8
_POWER_ITERATIONS = 4


def loftq(
    weight: torch.Tensor, precision: Precision, *, rank: int, scaling: float, iterations: int, seed: int
) -> tuple[Tensors, torch.Tensor, torch.Tensor]:
    """Quantize ``weight [out, in]`` (bfloat16) and initialise its adapter.

    Returns the stored tensors, ``A [rank, in]`` and ``B [out, rank]``, both float32. At 16 bits, and with 0
    iterations, nothing is to be corrected: ``B`` is zero and ``A`` random, as LoRA starts.
    """
    generator = torch.Generator().manual_seed(seed)
    a = torch.empty(rank, weight.shape[1])
    bound = 1 / math.sqrt(weight.shape[1])
    a.uniform_(-bound, bound, generator=generator)
    b = torch.zeros(weight.shape[0], rank)
    tensors = precision.encode(weight)
    if precision.bits == 16 or iterations == 0:
        return tensors, a, b
    wanted = weight.float()
    for iteration in range(iterations):
        if iteration > 0:
            correction = (scaling * b @ a).to(wanted.device)
            tensors = precision.encode((wanted - correction).to(torch.bfloat16))
        error = wanted - precision.decode(tensors).float()
        a, b = _factors(error.cpu(), rank, scaling, seed)
    return tensors, a, b


def _factors(error: torch.Tensor, rank: int, scaling: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``A`` and ``B`` of the best rank-``rank`` ``s·B·A`` near ``error``; singular values shared evenly."""
    size = min(rank, *error.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = min(size + _OVERSAMPLING, *error.shape)
        u, s, v = torch.svd_lowrank(error, q=width, niter=_POWER_ITERATIONS)
    root = (s[:size] / scaling).sqrt()
    a = torch.zeros(rank, error.shape[1])
    b = torch.zeros(error.shape[0], rank)
    a[:size] = root.unsqueeze(1) * v[:, :size].T
    b[:, :size] = u[:, :size] * root
    return a, b
