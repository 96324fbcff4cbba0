"""Our KL beside llama.cpp's own, on the same files and the same tokens."""

from __future__ import annotations

import re
from pathlib import Path

from bench.frontier.cells import Setting
from bench.frontier.making import run_metered
from bench.frontier.rows import CheckRow
from bench.study.texts import WINDOW

TYPES = ("Q2_K", "Q4_K_M")
_MEAN = re.compile(r"Mean\s+KLD:\s+(-?[\d.]+)\s+±\s+([\d.]+)")


def check(setting: Setting, *, collecting: bool) -> list[CheckRow]:
    """``llama-perplexity --kl-divergence`` of two of ``llama-quantize``'s files on the first text.

    Both take windows of the same tokens and count the second half of each. llama.cpp rounds activations to 8 bits and
    we do not. Left out for a model whose windows begin with a token of their own: llama.cpp puts it in place of the
    first token of each window, we before it.
    """
    place = setting.place
    windows = place.windows()
    text = sorted(windows)[0]
    if len(set(windows[text][:, 0].tolist())) == 1:
        return []
    there = [kind for kind in TYPES if f"llama-quantize {kind}" in setting.rows]
    found = [_checked(setting, kind, text, len(windows[text]), collecting=collecting) for kind in there]
    return [row for row in found if row is not None]


def _checked(setting: Setting, kind: str, text: str, chunks: int, *, collecting: bool) -> CheckRow | None:
    place = setting.place
    name = f"llama-quantize {kind}"
    ours = setting.rows[name].texts[text].late
    known = place.rows.find(CheckRow, name, ours=ours)
    if known is not None or collecting:
        return known
    file, base, log = place.made / "check.gguf", place.made / "check.base", place.made / "check.log"
    quantize = [str(setting.llama / "llama-quantize"), "--imatrix", str(place.imatrix)]
    run_metered([*quantize, str(place.gguf), str(file), kind, "1"], log)
    perplexity = [str(setting.llama / "llama-perplexity"), "-f", str(place.text(text)), "-c", str(WINDOW), "-b", "512"]
    perplexity += ["--chunks", str(chunks), "-t", "1", "--kl-divergence-base", str(base)]
    if not base.is_file():
        run_metered([*perplexity, "-m", str(place.gguf)], log)
    run_metered([*perplexity, "-m", str(file), "--kl-divergence"], log)
    theirs, error = read_divergence(log)
    row = CheckRow(
        model=place.model,
        file=name,
        text=text,
        tokens=chunks * WINDOW // 2,
        theirs=theirs,
        theirs_error=error,
        ours=ours,
    )
    place.rows.keep(name, row)
    file.unlink()
    if kind == TYPES[-1]:
        base.unlink()
    return row


def read_divergence(log: Path) -> tuple[float, float]:
    """Mean KL and its standard error from what ``llama-perplexity`` wrote to ``log``."""
    found = _MEAN.search(log.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise ValueError(f"{log} has no mean divergence.")
    return float(found[1]), float(found[2])
