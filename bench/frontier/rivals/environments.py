"""The rivals, and the environments that they run in: their pins clash with each other's and with ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.frontier.cells import Rival
from bench.frontier.rows import Kind

_TORCH = "torch==2.13.0"
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "llm-compressor": (_TORCH, "llmcompressor==0.14.0.1"),
    "auto-round": (_TORCH, "auto-round==0.16.1", "gguf", "sentencepiece", "protobuf"),
    "hqq": (_TORCH, "hqq==0.2.8.post1", "transformers==5.23.0", "accelerate"),
    "gptqmodel": (_TORCH, "gptqmodel==7.0.0"),
}
_ITERATIONS = 50
"""Of AutoRound's tuning of roundings; its default of 200 takes hours on one thread."""


@dataclass(frozen=True)
class RivalRow:
    """``match``: rows of the same have the same bytes, so that ours is asked for once. ``ours_kind``: its format."""

    name: str
    group: str
    kind: Kind
    maker: Rival
    match: str
    ours_kind: Kind = "compressed-tensors"


def rivals_of(model: str, *, quick: bool) -> Iterator[RivalRow]:
    """The rivals for ``model``: GPTQ, AWQ and AutoRound's types first, for what is claimed rests on them."""
    group = 64 if model == "SmolLM2-135M" else 128  # 576 inputs are no multiple of 128
    four = f"W4A16 g{group}"
    yield _compressor(f"GPTQ {four}", "llm-compressor GPTQ", four, {"method": "gptq", "group": group})
    yield _compressor(f"AWQ {four}", "llm-compressor AWQ", four, {"method": "awq", "group": group})
    yield _auto_round("q4_k_m", iters=0)
    if quick:
        return
    yield _auto_round("q2_k_s", iters=0)
    yield _auto_round("q4_k_m", iters=_ITERATIONS)
    scheme = {"avg_bits": 5.0, "options": "gguf:q2_k_s,gguf:q4_k_s,gguf:q6_k", "type": "gguf:q4_k_m", "iters": 0}
    maker = Rival("auto-round", "auto_round_", scheme)
    yield RivalRow("AutoRound AutoScheme, 5 bits", "AutoRound AutoScheme", "gguf", maker, "scheme", ours_kind="gguf")
    yield _compressor("W8A16 channel, nearest", "llm-compressor W8A16", "W8A16", {"method": "nearest", "bits": 8})
    hqq = Rival("hqq", "hqq_", {"bits": 4, "group": 64})
    yield RivalRow("HQQ, 4 bits g64", "HQQ", "transformers", hqq, "HQQ")
    gptq = Rival("gptqmodel", "gptq_model", {"bits": 4, "group": group})
    yield RivalRow(f"GPTQModel 4 bits g{group}", "GPTQModel", "transformers", gptq, "GPTQModel")


def _compressor(name: str, group: str, match: str, values: Mapping[str, object]) -> RivalRow:
    return RivalRow(name, group, "compressed-tensors", Rival("llm-compressor", "llm_compressor", values), match)


def _auto_round(kind: str, *, iters: int) -> RivalRow:
    maker = Rival("auto-round", "auto_round_", {"type": f"gguf:{kind}", "iters": iters})
    tuned = f", {iters} iterations" if iters else ""
    name = f"AutoRound {kind}{tuned}"
    return RivalRow(name, f"AutoRound GGUF{tuned}", "gguf", maker, kind, ours_kind="gguf")


def pythons(folder: Path) -> dict[str, Path]:
    """The Python of each environment below ``folder``; those that are missing are made by pip."""
    found = {}
    for name, requirements in REQUIREMENTS.items():
        python = folder / name / "bin" / "python"
        if not python.is_file():
            print(f"Installing {' '.join(requirements)} into {folder / name}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)  # noqa: S603 - stands above
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=False)  # noqa: S603
        found[name] = python
    return found
