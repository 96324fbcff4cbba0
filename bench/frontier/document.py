"""The page, drawn from the raw figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.frontier.cells import OURS
from bench.frontier.claims import Claim, claims
from bench.frontier.pruning import pruning
from bench.frontier.reasons import reasons
from bench.frontier.rows import FrontierReport, FrontierRow, SourceRow
from bench.frontier.swaps import swaps
from bench.study.tables import markdown_table, verdict
from qpruner_core.sizes import format_bytes

_FLOOR = {
    "bfloat16": " Of two models that differ a little, activations and logits are rounded independently, which adds "
    "about 0.002 to KL of SmolLM2: with all layers in q8_0, rounded to the nearest, it is 0.0038, and 0.0018 in "
    "float32 (383 tokens of PTB)."
}
"""What the type of computation adds to KL."""
TITLE = "# The best checkpoint per byte"
_CAPTIONS = {
    "kl": "KL against bytes",
    "perplexity": "Perplexity against bytes",
    "pruning": "KL against bytes with the ratio of pruning as a third axis",
}


def render(report: FrontierReport, pictures: Mapping[str, Path]) -> str:
    """The page in markdown; ``pictures`` are files beside it."""
    found = claims(report)
    sections = [
        TITLE,
        _about(report),
        *(f"![{_CAPTIONS[name]}]({file.name})" for name, file in pictures.items()),
        "## What is claimed",
        _claims(found),
        *_why(found),
        *_tables(report),
        *swaps(report),
        *pruning(report),
        *_failures(report),
        "## How it is measured",
        _method(report),
    ]
    return "\n\n".join(sections) + "\n"


def _about(report: FrontierReport) -> str:
    machine = report.machine
    note = f" {report.note}" if report.note else ""
    return (
        f"Made by `make bench-frontier` on {machine.date}: {machine.machine}; {machine.versions}. Drawn again from "
        f"`frontier.json` by `python -m bench.frontier --redraw`.{note}"
    )


def _claims(found: Sequence[Claim]) -> str:
    lines = [[claim.model, claim.what, *verdict(claim)] for claim in found]
    return markdown_table(["model", "claim", "holds", "ratio"], lines) + (
        "\n\nRatios of KL are ours over theirs, on the same windows, with the standard error over windows."
    )


def _why(found: Sequence[Claim]) -> Iterator[str]:
    paragraphs = reasons(found)
    if paragraphs:
        yield "### Why not"
        yield from paragraphs


def _tables(report: FrontierReport) -> Iterator[str]:
    for source in report.sources:
        rows = [row for row in report.rows if row.model == source.model and not row.failure]
        plain = [row for row in rows if "pruned" not in row.group and "types" not in row.group]
        yield f"## {source.model}"
        yield _table(plain, source)
        pruned = [row for row in rows if "pruned" in row.group]
        if pruned:
            yield f"### {source.model}, pruned"
            yield _table(pruned, source)


def _table(rows: Sequence[FrontierRow], source: SourceRow) -> str:
    texts = sorted({text for row in rows for text in row.texts})
    head = ["checkpoint", "bytes", "bits per weight"]
    head += [f"{what}, {text}" for text in texts for what in ("KL", "same top-1", "perplexity")]
    head += ["CPU-seconds", "peak memory"]
    ordered = sorted(rows, key=lambda row: (row.bytes, row.name))
    return markdown_table(head, [_line(row, texts, source) for row in ordered])


def _line(row: FrontierRow, texts: Sequence[str], source: SourceRow) -> list[str]:
    name = f"**{row.name}**" if row.group.startswith(OURS) else row.name
    cells = [name, format_bytes(row.bytes), f"{8 * row.bytes / source.weights:.2f}"]
    for text in texts:
        one = row.texts[text]
        known = [f"{one.divergence:.4f} ± {one.error:.4f}", f"{one.top1:.1%}"] if row.group != "dense" else ["–", "–"]
        cells += [*known, f"{one.perplexity:.2f}"]
    if not row.cost.cpu_seconds:
        return [*cells, "–", "–"]
    return [*cells, f"{row.cost.cpu_seconds:.0f}", format_bytes(row.cost.peak_bytes)]


def _failures(report: FrontierReport) -> Iterator[str]:
    failed = [row for row in report.rows if row.failure]
    if failed:
        yield "## What does not run"
        yield "\n".join(f"- {row.model}, {row.name} ({row.maker}; {row.settings}): {row.failure}" for row in failed)


def _method(report: FrontierReport) -> str:
    amounts = report.amounts
    tokens = ", ".join(f"{amounts.tokens[model]} of {model}" for model in amounts.models)
    lines = [
        *(_source_line(source) for source in report.sources),
        f"KL is that of the dense model's predictions to the checkpoint's, in nats per token, with its standard error "
        f"over windows; texts that no calibration saw, tokens of each: {tokens}, in windows of 512. Checkpoints are "
        f"read back into torch and computed in {report.computed}, as the dense model was."
        f"{_FLOOR.get(report.computed, '')}",
        *_checks(report),
        f"Every tool that calibrates does so on the same text ({report.calibration}), {amounts.sequences} sequences of "
        f"{amounts.length} tokens; `llama-imatrix` and ours tokenize it themselves. Ours is by its defaults, not "
        "pruned and not trained, unless its name says otherwise.",
        "Bytes are those of the tensors. Ours is asked for the bytes of the row that it is compared with, and never "
        "takes more. Bits per weight count all tensors over the dense model's weights, so that pruning shows in them.",
        "CPU-seconds are of the process and all that it starts, on one thread, from the dense checkpoint to the file; "
        "those of `llama-quantize` include `llama-imatrix`. Seconds by the clock are in `frontier.json`; the machine "
        "may have been shared. Peak memory is that of the largest process.",
        "Groups are of 64 on SmolLM2, whose 576 inputs are no multiple of 128. AutoRound at 0 iterations rounds to "
        "nearest with optimised scales; its default of 200 takes hours on one thread. HQQ and GPTQModel are measured "
        "by the values that they compute with. " + _rival_settings(report),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _rival_settings(report: FrontierReport) -> str:
    """What each rival was asked for."""
    rivals = {row.name: row for row in report.rows if row.maker not in ("none", "ours", "llama-quantize")}
    return "Asked of rivals: " + "; ".join(f"{name}: {row.maker}, {row.settings}" for name, row in rivals.items()) + "."


def _source_line(source: SourceRow) -> str:
    return (
        f"{source.model} comes as {source.source}. Off the grid (`bench/off_grid.py`), rounding its layers to Q4_1 has "
        f"a relative error of {source.error_after:.2%}, where the source's is {source.error_before:.2%}; KL between "
        f"the two in float32 is {source.divergence:.1e}. Its embeddings stay as they are, from 8 bits."
    )


def _checks(report: FrontierReport) -> Iterator[str]:
    for row in report.checks:
        yield (
            f"`llama-perplexity --kl-divergence` of {row.file} ({row.model}, {row.text}, the second half of each "
            f"window, {row.tokens} tokens): {row.theirs:.4f} ± {row.theirs_error:.4f}; ours, of the file read back: "
            f"{row.ours:.4f}."
        )
