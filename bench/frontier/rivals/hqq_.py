"""HQQ, which calibrates on nothing: a 16-bit checkpoint of the values that it computes with, and the bytes it stores.

Run in an environment that has it: ``python hqq_.py SETTINGS``, a JSON file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Write the checkpoint that the settings ask for, and ``stored_bytes.txt`` beside it."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.bfloat16)
    total = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    config = BaseQuantizeConfig(nbits=settings["bits"], group_size=settings["group"])
    for name, linear in list(model.named_modules()):
        if isinstance(linear, torch.nn.Linear) and not name.endswith("lm_head"):
            quantized = HQQLinear(
                linear, quant_config=config, compute_dtype=torch.bfloat16, device="cpu", del_orig=False
            )
            stored = [quantized.W_q, quantized.meta["scale"], quantized.meta["zero"]]
            total += sum(tensor.numel() * tensor.element_size() for tensor in stored)
            total -= linear.weight.numel() * linear.weight.element_size()
            linear.weight.data.copy_(quantized.dequantize().reshape(linear.weight.shape))
    model.save_pretrained(settings["output"])
    AutoTokenizer.from_pretrained(settings["model"]).save_pretrained(settings["output"])
    (Path(settings["output"]) / "stored_bytes.txt").write_text(f"{total}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
