"""The rows of rivals. Each is asked for what a user would ask of it, on the calibration that all have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.frontier.cells import Rival
from bench.frontier.rows import Kind
from bench.frontier.workplace import SMOLLM2

_ITERATIONS = 50
"""Of AutoRound's tuning of roundings; its default of 200 takes hours on one thread."""
_SCHEME_SEQUENCES = 16
"""That AutoScheme measures its options on: it makes a pass for each sequence, option and block."""
_GPTQ_MODEL, _HQQ = "gptqmodel", "hqq"


@dataclass(frozen=True)
class RivalRow:
    """``ours``: the target in which ours is asked for its bytes, unless another row has that already."""

    name: str
    group: str
    kind: Kind
    maker: Rival
    ours: Literal["gguf", "compressed-tensors"] | None = None


def claimed_rivals(model: str) -> Iterator[RivalRow]:
    """Those that claims are about."""
    four = f"W4A16 g{_group(model)}"
    yield RivalRow(
        f"GPTQ {four}", "llm-compressor GPTQ", "compressed-tensors", _compressor(model, "gptq"), "compressed-tensors"
    )
    yield RivalRow(f"AWQ {four}", "llm-compressor AWQ", "compressed-tensors", _compressor(model, "awq"))
    yield _auto_round("q4_k_m")


def other_rivals(model: str) -> Iterator[RivalRow]:
    """The others."""
    yield _auto_round("q2_k_s", ours=True)
    scheme = {
        "avg_bits": 5.0, "options": "gguf:q2_k_s,gguf:q4_k_s,gguf:q6_k", "type": "gguf:q4_k_m", "iters": 0,
        "scheme_sequences": _SCHEME_SEQUENCES,
    }  # fmt: skip
    maker = Rival("auto-round", "auto_round_", scheme)
    yield RivalRow("AutoRound AutoScheme, 5 bits", "AutoRound AutoScheme", "gguf", maker)
    eight = Rival("llm-compressor", "llm_compressor", {"method": "nearest", "bits": 8})
    yield RivalRow("W8A16 channel, nearest", "llm-compressor W8A16", "compressed-tensors", eight, "compressed-tensors")
    yield RivalRow("HQQ, 4 bits g64", "HQQ", "transformers", Rival(_HQQ, "hqq_", {"bits": 4, "group": 64}))
    if model == SMOLLM2:
        yield _auto_round("q4_k_m", iters=_ITERATIONS)
        gptq = Rival(_GPTQ_MODEL, "gptq_model", {"bits": 4, "group": _group(model)})
        yield RivalRow(f"GPTQModel 4 bits g{_group(model)}", "GPTQModel", "transformers", gptq)


def _group(model: str) -> int:
    return 64 if model == SMOLLM2 else 128  # 576 inputs are no multiple of 128


def _compressor(model: str, method: str) -> Rival:
    values: Mapping[str, object] = {"method": method, "group": _group(model)}
    return Rival("llm-compressor", "llm_compressor", values)


def _auto_round(kind: str, *, iters: int = 0, ours: bool = False) -> RivalRow:
    maker = Rival("auto-round", "auto_round_", {"type": f"gguf:{kind}", "iters": iters})
    tuned = f", {iters} iterations" if iters else ""
    return RivalRow(f"AutoRound {kind}{tuned}", f"AutoRound GGUF{tuned}", "gguf", maker, "gguf" if ours else None)
