"""4 bits: NormalFloat in blocks of 64 (QLoRA, arXiv 2305.14314), by bitsandbytes."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import pad

from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.precisions.base import Grid, Tensors
from qpruner_core.precisions.library import bnb

BLOCK = 64
NESTED_BLOCK = 256


class Nf4:
    """bitsandbytes ``Linear4bit`` with NF4; ``double_quant`` stores the blocks' maxima in 8 bits as well."""

    name = "nf4"
    bits_per_weight = BITS_PER_WEIGHT[name]
    lossless = False

    def __init__(self, double_quant: bool) -> None:
        self.double_quant = double_quant

    def accepts(self, rows: int, columns: int) -> bool:
        """Any shape."""
        return True

    def weight_bytes(self, rows: int, columns: int) -> int:
        """Half a byte per weight."""
        return math.ceil(rows * columns / 2)

    def constant_bytes(self, rows: int, columns: int) -> int:
        """The blocks' maxima, the 16 levels, and with double quantization its maxima, 256 levels and offset."""
        blocks = math.ceil(rows * columns / BLOCK)
        levels = 4 * 16
        if not self.double_quant:
            return 4 * blocks + levels
        return blocks + 4 * math.ceil(blocks / NESTED_BLOCK) + 4 * 256 + 4 + levels

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The packed weight uint8 ``[out · in / 2, 1]`` and its quantization state, in bitsandbytes' own names."""
        packed, state = bnb.functional.quantize_4bit(
            weight.to(torch.bfloat16).contiguous(),
            blocksize=BLOCK,
            compress_statistics=self.double_quant,
            quant_type="nf4",
        )
        return {"weight": packed, **_named(state)}

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """The weight that ``Linear4bit`` multiplies with."""
        state = _state(tensors)
        _require_whole(state, tensors["weight"])
        weight: torch.Tensor = bnb.functional.dequantize_4bit(tensors["weight"], state)
        return weight

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The quantization state alone: most of the time of :meth:`encode` is spent on the codes."""
        flat = weight.to(torch.bfloat16).float().flatten()
        maxima = pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK).abs().amax(dim=1)
        nested: dict[str, Any] = {}
        if self.double_quant:
            offset = maxima.mean()
            maxima, state = bnb.functional.quantize_blockwise(maxima - offset, blocksize=NESTED_BLOCK)
            nested = {"offset": offset, "state2": state}
        state = bnb.functional.QuantState(
            maxima, weight.shape, bnb.functional.get_4bit_type("nf4", device=weight.device), BLOCK, "nf4",
            torch.bfloat16, **nested,
        )  # fmt: skip
        return _named(state)

    def grid(self, tensors: Tensors) -> Grid | None:
        """The 16 levels of NormalFloat, and the maximum of the block of each entry."""
        state = _state(tensors)
        maxima = state.absmax
        if state.nested:
            maxima = bnb.functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
        scale = maxima.float().repeat_interleave(BLOCK)[: math.prod(state.shape)].view(state.shape)
        return Grid(state.code.float(), scale)

    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the levels of these numbers; two to a byte, the first in the upper half."""
        flat = codes.flatten().to(torch.uint8)
        if len(flat) % 2:
            flat = torch.cat([flat, flat.new_zeros(1)])
        return tensors | {"weight": (flat[0::2] << 4 | flat[1::2]).unsqueeze(1)}

    def scales(self, tensors: Tensors) -> Tensors:
        """The blocks' maxima, float32 ``[blocks]``; with double quantization the maxima of these in blocks of 256."""
        name = _float_maxima(tensors)
        return {name: tensors[name].float()}

    def with_scales(self, tensors: Tensors, scales: Tensors) -> Tensors:
        """``tensors`` with these unrounded maxima."""
        name = _float_maxima(tensors)
        return tensors | {name: scales[name].detach().float()}

    def values_with(self, tensors: Tensors, scales: Tensors) -> torch.Tensor:
        """The levels times the maxima of their blocks, float32 ``[out, in]``."""
        state = _state(tensors)
        _require_whole(state, tensors["weight"])
        maxima = scales[_float_maxima(tensors)]
        if state.nested:
            blocks = state.absmax.numel()
            shares = state.state2.code.float()[state.absmax.flatten().long()]
            maxima = shares * maxima.repeat_interleave(NESTED_BLOCK)[:blocks] + state.offset
        packed = tensors["weight"].flatten()
        weights = math.prod(state.shape)
        levels = state.code.float()[torch.stack([packed >> 4, packed & 15], dim=1).flatten().long()][:weights]
        values: torch.Tensor = (levels * maxima.repeat_interleave(BLOCK)[:weights]).view(state.shape)
        return values

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The unchanged inputs."""
        return inputs

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A ``Linear4bit`` on the packed weight.

        bitsandbytes would repack the weight at the first forward pass on CPUs with AVX-512, which changes its bytes and
        rounds its constants: results would depend on the machine and on train or eval mode, so that is turned off.
        """
        weight = bnb.nn.Params4bit.from_prequantized(
            tensors["weight"], _state_of(tensors), device=tensors["weight"].device
        )
        _require_whole(weight.quant_state, tensors["weight"])
        rows, columns = weight.quant_state.shape
        linear: Any = bnb.nn.Linear4bit(
            columns, rows, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta"
        )
        linear.weight = weight
        linear.weight.module = linear
        linear.quant_state = weight.quant_state
        linear.support_avx512bf16_for_cpu = False
        if bias is not None:
            linear.bias = nn.Parameter(bias, requires_grad=False)
        return cast(nn.Module, linear)


def _float_maxima(tensors: Tensors) -> str:
    return "weight.nested_absmax" if "weight.nested_absmax" in tensors else "weight.absmax"


def _named(state: Any) -> Tensors:
    return {f"weight.{name}": value for name, value in state.as_dict(packed=True).items()}


def _state(tensors: Tensors) -> Any:
    return bnb.functional.QuantState.from_dict(_state_of(tensors), device=tensors["weight.absmax"].device)


def _state_of(tensors: Tensors) -> Tensors:
    # from_dict empties the dictionary it is given
    return {name.removeprefix("weight."): value for name, value in tensors.items() if name.startswith("weight.")}


def _require_whole(state: Any, packed: torch.Tensor) -> None:
    """Raise ``ValueError`` unless every weight has its constants: bitsandbytes would read beyond them."""
    weights = math.prod(state.shape)
    blocks = math.ceil(weights / BLOCK)
    maxima = torch.uint8 if state.nested else torch.float32
    whole = state.blocksize == BLOCK and _are(packed, torch.uint8, math.ceil(weights / 2))
    whole &= _are(state.absmax, maxima, blocks) and _are(state.code, torch.float32, 16)
    if state.nested:
        second = state.state2
        whole &= second.blocksize == NESTED_BLOCK and _are(second.code, torch.float32, 256)
        whole &= _are(second.absmax, torch.float32, math.ceil(blocks / NESTED_BLOCK))
    if not whole or weights <= 0:
        raise ValueError("the packed weight and its constants do not match each other")


def _are(values: torch.Tensor, dtype: torch.dtype, count: int) -> bool:
    return values.dtype == dtype and values.numel() == count
