"""The comparison with peers as a markdown document."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from bench.peers.rows import PeerRow
from bench.report import Machine
from bench.table import measures_cell
from qpruner_core.sizes import format_bytes

TITLE = "# Beside other tools, at the same bytes"


class PeersReport(BaseModel):
    """All that the comparison found, as it is kept in docs/benchmarks/peers.json.

    ``tokens`` of each text, ``examples`` of each task (at most); every tool may look at ``sequences`` of ``length``
    tokens. ``note``: what else must be known of how the rows came about.
    """

    model: str
    tokens: int
    examples: int
    sequences: int
    length: int
    machine: Machine
    rows: list[PeerRow]
    note: str = ""


def render(report: PeersReport) -> str:
    """The document."""
    measured = [row for row in report.rows if row.measures]
    alone = [row for row in measured if row.against is None and row.tool.startswith(("none", "qpruner"))]
    peers = [row for row in measured if row not in alone and row.against is None]
    parts = [
        TITLE,
        _made_by(report),
        *([report.note] if report.note else []),
        "## At a glance",
        _glance(report, peers),
        "## What is measured",
        _what_is_measured(report),
        "## Without a limit of bytes",
        results_table(alone),
    ]
    for peer in peers:
        rows = [peer, *(row for row in measured if row.against == peer.name)]
        parts += [f"## In the bytes of {peer.name}", results_table([row for row in alone if row.tool == "none"] + rows)]
    return "\n\n".join([*parts, "## What does not run here", _failures(report)]) + "\n"


def results_table(rows: Sequence[PeerRow]) -> str:
    """A markdown table of ``rows``, in this order, with a column for every text and task of the first."""
    names = list(rows[0].measures)
    header = ["allocation", "bytes", "bits a weight", *names, "seconds"]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for row in rows:
        cells = [_short(row), format_bytes(row.bytes), f"{row.mean_bits:.2f}"]
        cells += [measures_cell(row.measures.get(name, {})) for name in names]
        lines.append("| " + " | ".join([*cells, "–" if row.tool == "none" else f"{row.seconds:.0f}"]) + " |")
    return "\n".join(lines)


def _short(row: PeerRow) -> str:
    return row.name if row.against is None else row.name.removesuffix(f", in the bytes of {row.against}")


def _glance(report: PeersReport, peers: Sequence[PeerRow]) -> str:
    """Each peer beside the best of ours in its bytes; by the first text."""
    text = next(iter(report.rows[0].measures))
    lines = [
        f"| peer | bytes | {text} | ours in these bytes | bytes | {text} | perplexity lower by |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for peer in peers:
        ours = [row for row in report.rows if row.against == peer.name and row.measures]
        if not ours:
            continue
        best = min(ours, key=lambda row: row.measures[text]["perplexity"])
        theirs, own = peer.measures[text]["perplexity"], best.measures[text]["perplexity"]
        lower = f"{1 - own / theirs:.1%}".replace("-", "−")
        lines.append(
            f"| {peer.name} | {format_bytes(peer.bytes)} | {theirs:.2f} | {_short(best)} "
            f"| {format_bytes(best.bytes)} | {own:.2f} | {lower} |"
        )
    return "\n".join(lines)


def _made_by(report: PeersReport) -> str:
    made = report.machine
    tools = sorted({row.tool for row in report.rows if not row.tool.startswith(("none", "qpruner"))})
    return (
        f"Made by `make bench-peers` on {made.date}: {report.model} in bfloat16 on {made.machine}, {made.threads} "
        f"threads; {', '.join([made.versions, *tools])}. Drawn again from `peers.json` by "
        "`python -m bench.peers --render`."
    )


def _what_is_measured(report: PeersReport) -> str:
    counted = {row.tool.partition(" ")[0]: row.counted for row in report.rows if row.measures and row.tool != "none"}
    ours = counted.pop("qpruner", None)
    lines = [
        "- Nothing is pruned, and no weight is trained afterwards. Ours has its adapters, as they start.",
        "- Ours is asked for the bytes that the peer takes, of the whole loaded model, and never takes more.",
        "- Bytes of ours: storages of the loaded model, adapters included." if ours else "",
        *(f"- Bytes of {tool}: {how}." for tool, how in sorted(counted.items())),
        "- The embeddings are tied to the head. Peers leave them in 16 bits, as they do unless told otherwise; ours "
        'may have them in 8 bits, but for the rows "embeddings in 16 bits".',
        f"- Whoever calibrates does so on {report.sequences} sequences of {report.length} tokens of the same text; "
        "HQQ, optimum-quanto and torchao do without.",
        f"- Perplexity: the first {report.tokens} tokens of each text, in windows of 512 that do not overlap. Tasks: "
        f"the first {report.examples} examples of each (at most), zero-shot, acc / acc_norm and the standard error of "
        "acc; LAMBADA: share of words that greedy decoding gets right, and their perplexity. Differences below two "
        "standard errors say nothing.",
        "- Seconds: from the dense checkpoint to the quantized model. The first of our rows that share scores has "
        "the time of scoring in it; so it is with the fits of modules, of which those for NF4 and INT8 come first.",
    ]
    return "\n".join(line for line in lines if line)


def _failures(report: PeersReport) -> str:
    lines = [f"- {row.name} ({row.tool}): {row.failure}." for row in report.rows if row.failure]
    return "\n".join([*lines, *NOT_HERE])


NOT_HERE = (
    "- torchao's packed int4 (`Int4WeightOnlyConfig`, version 0.18.0, no GPU): the formats `plain` and `preshuffled` "
    "ask for mslk ≥ 1.0.0, of which pip offers no version but 0.0.0; `tile_packed_to_4d` asks for CUDA; "
    "`plain_int32` does not support the CPU; `opaque`, the format for CPUs of earlier versions, is no longer known. "
    "So its int4 values come from `IntxWeightOnlyConfig`.",
    "- optimum-quanto's own 4-bit modules compile a C++ extension at their first forward. Where we measured, the build "
    "tool hung (from quanto, and called by itself), so its packed weights are unpacked once into 16-bit ones.",
    "- auto-round 0.16.1 writes its packed format on a CPU and transformers 5.23 loads it there, but its forward pass "
    "fails for W4A16 (TypeError, the data type of the inputs is unknown). So its model "
    "is evaluated as it is before packing, with the values that it would store; the size of its packed format was "
    "compared with a file that it wrote: equal to the byte.",
)
