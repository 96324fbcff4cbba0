"""HQQ (half-quadratic quantization) at one number of bits, without calibration."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.peers.peer import Calibration, Quantized
from bench.peers.stored_bytes import stored_bytes
from qpruner_core.models import load_model


class HqqUniform:
    """Every linear module of the layers at ``bits``, in groups of ``group_size``; computed by HQQ's own modules."""

    package = "hqq"

    def __init__(self, bits: int, group_size: int) -> None:
        self.name = f"HQQ, {bits} bits"
        self.settings: dict[str, str | int | float] = {"nbits": bits, "group_size": group_size}

    def quantize(self, model: Path, calibration: Calibration) -> Quantized:
        """See :class:`bench.peers.peer.Peer`."""
        from hqq.core.quantize import BaseQuantizeConfig
        from hqq.models.hf.base import AutoHQQHFModel

        loaded = load_model(model)
        AutoHQQHFModel.quantize_model(
            loaded, quant_config=BaseQuantizeConfig(**self.settings), compute_dtype=torch.bfloat16, device="cpu"
        )
        counted = "storages of the loaded model: packed weights, a bfloat16 scale and zero a group"
        return Quantized(loaded.eval(), stored_bytes(loaded), float(self.settings["nbits"]), counted)
