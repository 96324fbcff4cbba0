"""8 bits as in LLM.int8() (arXiv 2208.07339), by bitsandbytes: inputs are rounded to 8 bits as well."""

from __future__ import annotations

from typing import Any, cast

import bitsandbytes as bnb
import torch
from torch import nn

from qpruner_core.precisions.base import Tensors
from qpruner_core.precisions.int8 import Int8, Int8Linear, Int8MatMul


class LlmInt8(Int8):
    """Stored as :class:`Int8`; each token's inputs are rounded as they come, without outlier decomposition."""

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """Each token rounded to 255 steps between plus and minus its absolute maximum, as ``Linear8bitLt`` does."""
        scale = inputs.detach().abs().amax(dim=-1, keepdim=True).float().clamp_min(1e-12) / 127
        rounded = ((inputs.detach().float() / scale).round() * scale).to(inputs.dtype)
        return inputs + (rounded - inputs.detach())

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """An :class:`LlmInt8Linear` on the stored rows."""
        return self._on(LlmInt8Linear, tensors, bias)


class LlmInt8Linear(Int8Linear):
    """Multiplies int8 with int8, as bitsandbytes' own ``Linear8bitLt``."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., out]`` for ``inputs [..., in]``, of their dtype; each token is rounded to 8 bits."""
        if not torch.is_grad_enabled():
            return cast(torch.Tensor, bnb.nn.Linear8bitLt.forward(self, inputs))
        if self.weight.CB is not None:
            self.init_8bit_state()
        return cast(torch.Tensor, _LlmInt8MatMul.apply(inputs, self.bias, self.state))


class _LlmInt8MatMul(Int8MatMul):
    """The gradient takes the rounding of inputs as not there (straight through), as :meth:`LlmInt8.round_input`."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, bias: torch.Tensor | None, state: bnb.MatmulLtState) -> torch.Tensor:
        ctx.state = state
        state.is_training = False  # or on a CPU it would not round inputs
        bias = None if bias is None else bias.to(inputs.dtype)
        return cast(torch.Tensor, bnb.matmul(inputs, state.CB, bias=bias, state=state))
