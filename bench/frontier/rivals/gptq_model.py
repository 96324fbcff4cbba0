"""GPTQModel: a 16-bit checkpoint of the values that it computes with, and the bytes it stores.

Run in an environment that has it: ``python gptq_model.py SETTINGS``, a JSON file.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock


def main() -> None:
    """Write the checkpoint that the settings ask for, and ``stored_bytes.txt`` beside it."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch

    _without_torchvision()
    from gptqmodel import GPTQModel, QuantizeConfig

    torch.set_num_threads(1)
    sequences = json.loads(Path(settings["sequences"]).read_text(encoding="utf-8"))
    output = Path(settings["output"])
    packed = output.with_suffix(".packed")
    shutil.rmtree(packed, ignore_errors=True)
    config = QuantizeConfig(bits=settings["bits"], group_size=settings["group"], device="cpu")
    model = GPTQModel.load(settings["model"], config)
    model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in sequences], batch_size=1)
    model.save(str(packed))
    total = write_unpacked(Path(settings["model"]), packed, output, settings)
    (output / "stored_bytes.txt").write_text(f"{total}\n", encoding="utf-8")


def _without_torchvision() -> None:
    """Let GPTQModel import torchvision, which it names for vision models alone and whose wheels want CUDA's torch."""
    import transformers.utils  # decides first that there is none

    transformers.utils.is_torchvision_available()
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        module = MagicMock(name=name)
        module.__spec__, module.__path__ = ModuleSpec(name, None), []
        sys.modules[name] = module


def write_unpacked(dense: Path, packed: Path, output: Path, settings: dict[str, Any]) -> int:
    """Write ``dense`` with the weights that ``packed`` (GPTQ's layout) has to ``output``; the bytes of it."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stored = {name: tensor for file in packed.glob("*.safetensors") for name, tensor in load_file(file).items()}
    saved = json.loads((packed / "quantize_config.json").read_text(encoding="utf-8"))
    added = 0 if saved.get("checkpoint_format") == "gptq_v2" else 1  # the first layout stores zero points less one
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.bfloat16)
    for name, module in model.named_modules():
        if f"{name}.qweight" in stored:
            module.weight.data.copy_(unpacked(stored, name, settings["bits"], added))
        elif f"{name}.weight" in stored:
            module.weight.data.copy_(stored[f"{name}.weight"])
    model.save_pretrained(output)
    AutoTokenizer.from_pretrained(dense).save_pretrained(output)
    return sum(tensor.numel() * tensor.element_size() for tensor in stored.values())


def unpacked(stored: dict[str, Any], name: str, bits: int, added: int) -> Any:
    """The weight ``[out, in]`` of the module ``name``: ``scale · (code − zero − added)`` by its group."""
    import torch

    shifts = torch.arange(0, 32, bits)
    mask = 2**bits - 1
    codes = stored[f"{name}.qweight"].unsqueeze(1) >> shifts.view(1, -1, 1) & mask
    codes = codes.reshape(-1, codes.shape[-1])  # [in, out]
    zeros = (stored[f"{name}.qzeros"].unsqueeze(2) >> shifts.view(1, 1, -1) & mask).flatten(1)  # [groups, out]
    groups = stored[f"{name}.g_idx"].long()
    return ((codes - zeros[groups] - added) * stored[f"{name}.scales"].float()[groups]).T


if __name__ == "__main__":
    main()
