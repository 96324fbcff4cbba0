"""Weights and precisions for the tests of ggml's formats."""

from __future__ import annotations

import gguf
import torch

from qpruner_core.precisions.base import Tensors
from qpruner_core.precisions.ggml import GGML, BlockFormat, GgmlPrecision, ScalarFormat

BLOCKS = [precision for precision in GGML.values() if isinstance(precision, BlockFormat)]
SCALARS = [precision for precision in GGML.values() if isinstance(precision, ScalarFormat)]


def weights(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """bfloat16 ``[rows, columns]``: normal, with channels of different sizes and a few outliers."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=generator) / 50
    values *= torch.rand(columns, generator=generator) + 0.5
    values += (torch.rand(rows, columns, generator=generator) < 0.002) * torch.randn(rows, 1, generator=generator) / 5
    return values.to(torch.bfloat16)


def importances(columns: int, seed: int = 1) -> torch.Tensor:
    """float32 ``[columns]``, of very different sizes."""
    return (1.5 * torch.randn(columns, generator=torch.Generator().manual_seed(seed))).exp()


def unpacked(precision: GgmlPrecision, tensors: Tensors) -> torch.Tensor:
    """What the gguf package makes of ``tensors``, float32 ``[out, in]``."""
    return torch.from_numpy(gguf.quants.dequantize(tensors["weight"].numpy(), precision.type).copy())


def error(found: torch.Tensor, weight: torch.Tensor, importance: torch.Tensor | None = None) -> float:
    """Sum of squared differences, times the ``importance`` of the columns."""
    squares = (found.double() - weight.double()).square()
    return float((squares if importance is None else squares * importance).sum())
