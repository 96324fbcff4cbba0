"""Neutral adapters, as in LoRA."""

from __future__ import annotations

import torch


def zero(
    error: torch.Tensor, input_scale: torch.Tensor | None, *, rank: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Returns ``None``; see :class:`Initialisation`."""
    return None
