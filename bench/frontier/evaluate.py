"""Measure one checkpoint, in a process of its own: ``python -m bench.frontier.evaluate KIND CHECKPOINT FOLDER OUTPUT``.

``FOLDER`` is the workplace of the model; the figures go to ``OUTPUT`` as JSON.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import cast

import torch
from torch import nn

from bench.frontier.predictions import compare
from bench.frontier.rows import Figures, Kind, Measured
from bench.frontier.workplace import Workplace
from qpruner_core.errors import CorruptModelError
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint import read_checkpoint, tensor_bytes
from qpruner_core.models.gguf.split import read_model
from qpruner_core.targets.compressed_tensors import read_compressed_tensors
from qpruner_core.targets.gguf import read_gguf


def main() -> int:
    """Measure what the command line names."""
    kind, checkpoint, folder, output = sys.argv[1:]
    torch.set_num_threads(1)
    place = Workplace("", Path(folder))
    measured = measure(cast(Kind, kind), Path(checkpoint), place)
    Path(output).write_text(measured.model_dump_json() + "\n", encoding="utf-8")
    return 0


def measure(kind: Kind, checkpoint: Path, place: Workplace) -> Measured:
    """The figures of ``checkpoint``; all are computed in float32, as the dense model's predictions were."""
    if kind == "gguf":
        tensors = read_model(checkpoint).tensors
        size = sum(tensor.size for tensor in tensors.values())
        types = {name: tensor.format.name.lower() for name, tensor in tensors.items()}
        return Measured(bytes=size, types=types, texts=_compared(read_gguf(checkpoint, dtype=torch.float32), place))
    counted = checkpoint / "stored_bytes.txt"
    if counted.is_file():
        size = int(counted.read_text(encoding="utf-8"))
    else:
        size = sum(tensor_bytes(*shape) for shape in read_checkpoint(checkpoint).tensors.values())
    model = _unpacked(checkpoint) if kind == "compressed-tensors" else load_model(checkpoint)
    return Measured(bytes=size, texts=_compared(model, place))


def _compared(model: nn.Module, place: Workplace) -> dict[str, Figures]:
    return compare(model, place.windows(), place.predictions)


def _unpacked(checkpoint: Path) -> nn.Module:
    """Of plain 16-bit weights: by our reader what is ours, else as transformers reads it."""
    with suppress(CorruptModelError):
        own: nn.Module = read_compressed_tensors(checkpoint)
        return own
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    model: nn.Module = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.bfloat16, quantization_config=CompressedTensorsConfig(dequantize=True)
    )
    return model.eval()


if __name__ == "__main__":
    sys.exit(main())
