"""The figures of :mod:`bench.gpu_recovery`, and the page of them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from bench.device_memory import DevicePeak
from bench.paper.claims import LESS_MEMORY
from bench.paper.methods import LLM_PRUNER
from bench.random_checkpoint import SHAPES
from qpruner_core.events import STAGES, StageName
from qpruner_core.sizes import format_bytes

TITLE = "# Device memory of recovery and inference"

RECOVERY, FORWARD, GENERATION = "recovery", "forward", "generation"
_UNKNOWN = "–"


class GpuAmounts(BaseModel):
    """How much is done.

    Pipeline up to ``last``: ``sequences`` of calibration, ``trials`` of the search, ``steps`` of recovery. Measured
    recovery: ``memory_steps`` of ``batch_size`` sequences of ``length`` tokens. Inference: ``prompt`` tokens, and
    ``generated`` ones behind as many.
    """

    shape: str = "7b"
    sequences: int = 4
    trials: int = 4
    steps: int = 4
    batch_size: int = 2
    length: int = 256
    memory_steps: int = 3
    prompt: int = 2048
    generated: int = 16
    last: StageName = "evaluate"


class GpuRow(BaseModel):
    """A method at a ratio.

    ``key``: digest of all that its figures follow from, the device too. ``bytes``: of the loaded model with adapters.
    ``seconds``: of the stages that ran. ``peaks``: of recovery, forward and generation, each with loading.
    """

    key: str
    method: str
    ratio: float
    date: str
    bytes: int
    seconds: dict[StageName, float]
    peaks: list[DevicePeak]

    def peak(self, *phases: str) -> int | None:
        """The most bytes of the device in any of ``phases``; ``None`` without a GPU."""
        sizes = [peak.added for peak in self.peaks if peak.stage in phases]
        known = [size for size in sizes if size is not None]
        return max(known) if known else None


class GpuReport(BaseModel):
    """Rows of one run; ``weights``: bytes of the dense model's file."""

    device: str
    versions: str
    weights: int
    amounts: GpuAmounts
    rows: list[GpuRow]


def render(report: GpuReport) -> str:
    """The page in markdown."""
    parts = [
        TITLE,
        _made_by(report),
        "## Peak device memory",
        _memory_table(report.rows),
        f"## At least {LESS_MEMORY:.0%} less than {LLM_PRUNER.name}",
        "\n".join(verdicts(report.rows)) or "Not told: a method is missing.",
        "## Seconds of each stage",
        _seconds_table(report.rows),
        _WHAT_IS_MEASURED,
    ]
    return "\n\n".join(parts) + "\n"


def verdicts(rows: Sequence[GpuRow]) -> list[str]:
    """A line for each of our rows that has a baseline: whether it needs that much less memory, and by how much."""
    baselines = {row.ratio: row for row in rows if row.method == LLM_PRUNER.name}
    return [
        f"- {row.ratio:.0%}, {row.method}: recovery {_verdict(row, baselines[row.ratio], RECOVERY)}; "
        f"inference {_verdict(row, baselines[row.ratio], FORWARD, GENERATION)}"
        for row in rows
        if row.method != LLM_PRUNER.name and row.ratio in baselines
    ]


def _verdict(row: GpuRow, baseline: GpuRow, *phases: str) -> str:
    ours, theirs = row.peak(*phases), baseline.peak(*phases)
    if ours is None or theirs is None:
        return "not measured"
    saving = 1 - ours / theirs
    return f"{'yes' if saving >= LESS_MEMORY else 'no'} ({abs(saving):.1%} {'less' if saving >= 0 else 'more'})"


def _made_by(report: GpuReport) -> str:
    amounts = report.amounts
    shape = ", ".join(f"{name} {size}" for name, size in SHAPES[amounts.shape].items())
    return "\n".join(
        [
            f"Written by `bench/gpu_recovery.py`; measured on {', '.join(sorted({row.date for row in report.rows}))}.",
            "",
            f"- Device: {report.device}",
            f"- Versions: {report.versions}",
            f"- Model: Llama with random weights, {shape}; {format_bytes(report.weights)} in 16 bits",
            f"- Pipeline: {amounts.sequences} sequences of calibration, {amounts.trials} trials, {amounts.steps} steps "
            f"of recovery, {amounts.batch_size} × {amounts.length} tokens each",
            f"- Recovery: loading and {amounts.memory_steps} steps on {amounts.batch_size} × {amounts.length} random "
            "tokens",
            f"- Inference: loading and one forward pass of 1 × {amounts.prompt} tokens; loading and "
            f"{amounts.generated} tokens generated behind as many",
        ]
    )


def _memory_table(rows: Sequence[GpuRow]) -> str:
    lines = [
        "| removed | method | bytes of the model | recovery | forward | generation |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        peaks = " | ".join(_size(row.peak(phase)) for phase in (RECOVERY, FORWARD, GENERATION))
        lines.append(f"| {row.ratio:.0%} | {row.method} | {format_bytes(row.bytes)} | {peaks} |")
    return "\n".join(lines)


def _size(size: int | None) -> str:
    return _UNKNOWN if size is None else format_bytes(size)


def _seconds_table(rows: Sequence[GpuRow]) -> str:
    lines = [f"| removed | method | {' | '.join(STAGES)} |", "|---:|---|" + "---:|" * len(STAGES)]
    for row in rows:
        cells = [f"{row.seconds[stage]:.1f}" if stage in row.seconds else _UNKNOWN for stage in STAGES]
        lines.append(f"| {row.ratio:.0%} | {row.method} | {' | '.join(cells)} |")
    return "\n".join(lines)


_WHAT_IS_MEASURED = """\
Peaks are those of torch's allocator (`max_memory_allocated`) above what it held before; CUDA itself and what the
allocator keeps in reserve come on top, for every method alike. Each method is measured on the checkpoint that its own
run made, on the modules as they are stored, without dropout. Where all of them have 16 bits, adapters are merged for
inference. Ours has the bytes half way between all layers at NF4 and all at INT8 of the model that the paper's pruning
makes at that ratio; as by default it prunes MLPs only, and so keeps the whole KV cache. Learning from the dense model
has it in memory during recovery. Seconds are of a pipeline with far fewer sequences, trials and steps than a real run.
Every method goes through every stage, though LLM-Pruner's recipe has no use for scores; both rows of ours share the
stages before recovery, which are timed once."""
