"""llm-compressor: GPTQ, AWQ, or rounding to nearest, W4A16 or W8A16, as a checkpoint of compressed-tensors.

Run in an environment that has it: ``python llm_compressor.py SETTINGS``, a JSON file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Write the checkpoint that the settings ask for."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    if not torch.accelerator.is_available():  # AWQ pins what it caches, whether or not there is a GPU to copy it to
        torch.Tensor.pin_memory = lambda self, *_, **__: self  # type: ignore[method-assign]
    sequences = json.loads(Path(settings["sequences"]).read_text(encoding="utf-8"))
    data = Dataset.from_dict({"input_ids": sequences, "attention_mask": [[1] * len(row) for row in sequences]})
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.bfloat16)
    given: dict[str, Any] = {"model": model, "recipe": recipe(settings)}
    if settings["method"] != "nearest":
        given |= {
            "dataset": data, "num_calibration_samples": len(sequences), "max_seq_length": settings["length"],
        }  # fmt: skip
    oneshot(**given)
    model.save_pretrained(settings["output"], save_compressed=True)
    AutoTokenizer.from_pretrained(settings["model"]).save_pretrained(settings["output"])


def recipe(settings: dict[str, Any]) -> list[Any]:
    """The modifiers, with the defaults of llm-compressor's own examples."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.awq import AWQModifier
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier

    group = settings.get("group")
    weights = QuantizationArgs(
        num_bits=settings.get("bits", 4), symmetric=True, strategy="group" if group else "channel", group_size=group
    )
    schemes = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    if settings["method"] == "gptq":
        return [GPTQModifier(config_groups=schemes, ignore=["lm_head"])]
    if settings["method"] == "awq":
        return [AWQModifier(config_groups=schemes, ignore=["lm_head"])]
    return [QuantizationModifier(config_groups=schemes, ignore=["lm_head"])]


if __name__ == "__main__":
    main()
