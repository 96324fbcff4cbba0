"""A linear module with trainable block scales and fixed codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import linear

from qpruner_core.precisions import Tensors
from qpruner_core.precisions.scaled import ScaledPrecision


class ScaledLinear(nn.Module):
    """Multiplies with the stored ``tensors``, whose scales change by a share each.

    The ``shares`` are the parameters, zero at first: a step of an optimiser is then relative to the scale. The codes
    stay packed. The 16-bit weight is decoded in each forward pass and again in each backward pass, and never stored.
    """

    def __init__(self, kind: ScaledPrecision, tensors: Tensors, bias: nn.Parameter | None) -> None:
        super().__init__()
        self._kind = kind
        self._tensors = tensors
        self._scales = kind.scales(tensors)
        self._names = sorted(self._scales)
        self.shares = nn.ParameterList(
            [nn.Parameter(torch.zeros_like(self._scales[name])) for name in self._names]  # float32, as the masters
        )
        self.bias = bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., out]`` for ``inputs [..., in]``, of their dtype."""
        product = _Product.apply(self._kind.round_input(inputs), self.bias, self, *self.shares)
        return cast(torch.Tensor, product)

    def values(self, shares: Sequence[torch.Tensor]) -> torch.Tensor:
        """The weight, float32 ``[out, in]``, with its scales changed by these ``shares``."""
        return self._kind.values_with(self._tensors, self._changed(shares))

    @torch.no_grad()
    def stored(self) -> Tensors:
        """The tensors with the trained scales in the format's precision, with unchanged codes and without the bias."""
        return self._kind.with_scales(self._tensors, self._changed(list(self.shares)))

    def _changed(self, shares: Sequence[torch.Tensor]) -> Tensors:
        return {name: self._scales[name] * (1 + share.float()) for name, share in zip(self._names, shares, strict=True)}


class _Product(torch.autograd.Function):
    """``inputs · weightᵀ + bias``, keeping only the inputs for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, bias: torch.Tensor | None, module: ScaledLinear, *shares: torch.Tensor
    ) -> torch.Tensor:
        ctx.module = module
        ctx.save_for_backward(inputs, *shares)
        return linear(inputs, module.values(shares).to(inputs.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, *shares = ctx.saved_tensors
        gradients = gradient.flatten(0, -2)
        with torch.enable_grad():
            leaves = [share.detach().requires_grad_() for share in shares]
            weight = ctx.module.values(leaves)
        of_inputs = gradient @ weight.detach().to(gradient.dtype) if ctx.needs_input_grad[0] else None
        of_bias = gradients.sum(0) if ctx.needs_input_grad[1] else None
        of_weight = gradients.T @ inputs.flatten(0, -2)
        return of_inputs, of_bias, None, *torch.autograd.grad(weight, leaves, of_weight.float())
