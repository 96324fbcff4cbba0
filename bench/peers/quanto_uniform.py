"""optimum-quanto at one number of bits, without calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from bench.peers.peer import Calibration, Quantized
from bench.peers.stored_bytes import stored_bytes
from qpruner_core.models import load_model


class QuantoUniform:
    """Every linear module but the tied head in qint4.

    Its bytes are those of its own packed tensors. To compute, these are unpacked into 16-bit weights once, because its
    modules compile a C++ extension at their first forward and are slow on a CPU even then.
    """

    package = "optimum-quanto"
    name = "optimum-quanto, 4 bits"

    def __init__(self) -> None:
        self.settings: dict[str, str | int | float] = {"weights": "qint4"}

    def quantize(self, model: Path, calibration: Calibration) -> Quantized:
        """See :class:`bench.peers.peer.Peer`."""
        from optimum.quanto import QLinear, freeze, qint4, quantize

        loaded = load_model(model)
        quantize(loaded, weights=qint4, exclude="lm_head")
        freeze(loaded)
        size = stored_bytes(loaded)
        packed = [(name, module) for name, module in loaded.named_modules() if isinstance(module, QLinear)]
        for name, module in packed:
            if type(module.weight).__name__ == "WeightQBitsTensor":
                loaded.set_submodule(name, _unpacked(module))
        counted = "storages of the loaded model: packed weights, a bfloat16 scale and shift a group"
        return Quantized(loaded.eval(), size, 4.0, counted)


def _unpacked(module: nn.Module) -> nn.Linear:
    """A plain linear module with the values that ``module`` multiplies with."""
    from optimum.quanto.tensor.grouped import ungroup

    weight: Any = module.weight
    packed = weight._data._data  # as quanto's pack_weights lays it out: the first half of the rows in the low bits
    values = torch.cat((packed & 15, packed >> 4))[: weight._data.shape[0]]
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    dequantized = weight._scale * values - weight._shift  # as quanto's QBitsDequantizer, in bfloat16
    plain.weight = nn.Parameter(ungroup(dequantized, axis=weight.axis, orig_shape=weight.shape), requires_grad=False)
    plain.bias = cast(nn.Parameter, module.bias)
    return plain
