"""8 bits as in LLM.int8() (arXiv 2208.07339), by bitsandbytes: inputs are rounded to 8 bits as well."""

from __future__ import annotations

import torch
from torch import nn

from qpruner_core.precisions.base import Tensors
from qpruner_core.precisions.int8 import Int8


class LlmInt8(Int8):
    """Stored like :class:`Int8`; each token's inputs are rounded at run time, without outlier decomposition."""

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """Each token rounded to 255 steps between plus and minus its absolute maximum, as ``Linear8bitLt`` does."""
        scale = inputs.detach().abs().amax(dim=-1, keepdim=True).float().clamp_min(1e-12) / 127
        rounded = ((inputs.detach().float() / scale).round() * scale).to(inputs.dtype)
        return inputs + (rounded - inputs.detach())

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """An :class:`~qpruner_core.precisions.int8_linear.LlmInt8Linear` on the stored rows."""
        from qpruner_core.precisions.int8_linear import LlmInt8Linear

        return self._on(LlmInt8Linear, tensors, bias)
