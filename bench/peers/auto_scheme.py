"""auto-round's AutoScheme: the bits of every linear module by the change of the loss, within a mean number of bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bench.peers.peer import Calibration, Quantized
from bench.peers.stored_bytes import stored_bytes

_SCALE_BYTES = 2  # float16


class AutoScheme:
    """W4A16 or W8A16 for every linear module but the head, ``avg_bits`` in the mean, constants included.

    ``iters``: of auto-round's tuning of each module's rounding; 0 rounds to nearest with a weighted search of the
    scale. auto-round packs for a GPU or for its own inference; here it is asked for the dequantized 16-bit model, and
    bytes are those of its packed format.
    """

    package = "auto-round"

    def __init__(self, mean_bits: float, iters: int) -> None:
        self.name = f"auto-round, AutoScheme {mean_bits:g} bits"
        self.settings: dict[str, str | int | float] = {
            "avg_bits": mean_bits, "options": "W4A16,W8A16", "iters": iters,
        }  # fmt: skip

    def quantize(self, model: Path, calibration: Calibration) -> Quantized:
        """See :class:`bench.peers.peer.Peer`."""
        import auto_round

        settings: dict[str, Any] = {
            "dataset": str(calibration.file.resolve()), "nsamples": calibration.sequences,
            "seqlen": calibration.length, "batch_size": 1, "device_map": "cpu",
        }  # fmt: skip
        scheme = auto_round.AutoScheme(avg_bits=self.settings["avg_bits"], options=self.settings["options"], **settings)
        tool = auto_round.AutoRound(
            str(model), scheme=scheme, iters=self.settings["iters"], enable_torch_compile=False, **settings
        )
        found, layers = tool.quantize()
        chosen = {name: layer for name, layer in layers.items() if layer.get("bits", 16) < 16}
        weights = {name: found.get_submodule(name).weight.numel() for name in chosen}
        mean = sum(weights[name] * layer["bits"] for name, layer in chosen.items()) / sum(weights.values())
        counted = "by the documented format: packed weights and zero points, a float16 scale a group"
        return Quantized(found.to(torch.bfloat16).eval(), packed_bytes(found, chosen), mean, counted)


def packed_bytes(model: PreTrainedModel, layers: Mapping[str, Mapping[str, Any]]) -> int:
    """Bytes of ``model`` with the modules ``layers`` in auto-round's packed format (as GPTQ's: ``qweight``, ``qzeros``
    and ``scales``), all else as ``model`` keeps it in bfloat16."""
    total = stored_bytes(model)
    for name, layer in layers.items():
        weight = model.get_submodule(name).weight
        rows, columns = weight.shape
        groups = rows * math.ceil(columns / layer["group_size"])
        packed = (weight.numel() + groups) * layer["bits"] // 8 + groups * _SCALE_BYTES
        total += packed - weight.numel() * weight.element_size()
    return total
