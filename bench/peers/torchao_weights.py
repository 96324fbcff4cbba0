"""torchao's weight-only configurations that run on a CPU."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bench.peers.peer import Calibration, Quantized
from bench.peers.stored_bytes import stored_bytes
from qpruner_core.models import load_model

_HEAD = "lm_head"


class TorchaoWeights:
    """Every linear module but the tied head at ``bits``; computed by torchao's own tensors.

    torchao's packed int4 tensors (``Int4WeightOnlyConfig``) need mslk, CUDA or XPU. On a CPU its int4 values are kept
    in a byte each; they are counted as the half byte that its packed tensors take.
    """

    package = "torchao"

    def __init__(self, bits: int, group_size: int = 0) -> None:
        self.name = f"torchao, {bits} bits"
        self.settings: dict[str, str | int | float] = {"bits": bits}
        if group_size:
            self.settings["group_size"] = group_size

    def quantize(self, model: Path, calibration: Calibration) -> Quantized:
        """See :class:`bench.peers.peer.Peer`."""
        import torch
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerGroup

        loaded = load_model(model)
        bits = int(self.settings["bits"])
        if bits == 8:
            config = Int8WeightOnlyConfig()
        else:
            group = PerGroup(int(self.settings["group_size"]))
            config = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=group)  # type: ignore[attr-defined]
        names = {name for name, module in loaded.named_modules() if isinstance(module, nn.Linear) and name != _HEAD}
        weights = sum(loaded.get_submodule(name).weight.numel() for name in names)
        quantize_(loaded, config, filter_fn=lambda module, name: name in names)
        size, counted = stored_bytes(loaded), "storages of the loaded model"
        if bits == 4:
            size -= weights // 2
            counted += ", but half a byte a weight: on a CPU torchao keeps a whole one"
        return Quantized(loaded.eval(), size, float(bits), counted)
