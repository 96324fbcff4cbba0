"""AutoRound: its GGUF export in one type, or AutoScheme's mix of types.

Run in an environment that has it: ``python auto_round_.py SETTINGS``, a JSON file.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Write the GGUF file that the settings ask for."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch
    from auto_round import AutoRound, AutoScheme

    torch.set_num_threads(1)
    output = Path(settings["output"])
    folder = output.with_suffix(".folder")
    shutil.rmtree(folder, ignore_errors=True)
    calibration: dict[str, Any] = {
        "dataset": str(documents(settings, folder.with_suffix(".jsonl"))), "seqlen": settings["length"],
        "nsamples": len(json.loads(Path(settings["sequences"]).read_text(encoding="utf-8"))),
        "batch_size": 1, "device_map": "cpu",
    }  # fmt: skip
    scheme: Any = settings["type"]
    if "avg_bits" in settings:
        measured_on = calibration | {"nsamples": settings["scheme_sequences"]}
        scheme = AutoScheme(avg_bits=settings["avg_bits"], options=settings["options"], **measured_on)
    tool = AutoRound(
        settings["model"], scheme=scheme, iters=settings["iters"], enable_torch_compile=False, **calibration
    )
    tool.quantize_and_save(str(folder), format=settings["type"])
    (file,) = folder.rglob("*.gguf")
    shutil.move(file, output)


def documents(settings: dict[str, Any], file: Path) -> Path:
    """The calibration sequences as lines of text: AutoRound tokenizes them again, into as many tokens or a few more."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    sequences = json.loads(Path(settings["sequences"]).read_text(encoding="utf-8"))
    lines = [json.dumps({"text": tokenizer.decode(row + row[:16], skip_special_tokens=True)}) for row in sequences]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


if __name__ == "__main__":
    main()
