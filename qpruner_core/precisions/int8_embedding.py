"""Embeddings in 8 bits: one absolute maximum per row, stored like :mod:`qpruner_core.precisions.int8`."""

from __future__ import annotations

from typing import cast

import bitsandbytes as bnb
import torch
from torch import nn

from qpruner_core.precisions.base import Tensors
from qpruner_core.precisions.int8 import require_int8


class Int8Embedding(bnb.nn.Embedding8bit):
    """bitsandbytes' ``Embedding8bit`` on stored rows; ``like`` is the module that it replaces (Gemma 3's multiplies its
    output by ``embed_scale``)."""

    def __init__(self, tensors: Tensors, like: nn.Embedding) -> None:
        require_int8(tensors)
        rows, columns = tensors["weight"].shape
        super().__init__(rows, columns, device="meta", dtype=torch.bfloat16)
        self.weight = bnb.nn.Int8Params(
            tensors["weight"], requires_grad=False, has_fp16_weights=False, CB=tensors["weight"], SCB=tensors["SCB"]
        )
        scale = getattr(like, "embed_scale", None)
        if isinstance(scale, torch.Tensor):
            self.register_buffer("embed_scale", scale, persistent=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings ``[..., width]`` of token ids ``[...]``, bfloat16."""
        rows = cast(torch.Tensor, super().forward(input_ids))
        return rows * self.embed_scale.to(rows.dtype) if hasattr(self, "embed_scale") else rows

    def _save_to_state_dict(self, destination: dict[str, torch.Tensor], prefix: str, keep_vars: bool) -> None:
        # bitsandbytes raises, and PEFT reads the state of every module
        nn.Module._save_to_state_dict(self, destination, prefix, keep_vars)
        destination[f"{prefix}SCB"] = cast(torch.Tensor, self.weight.SCB)
