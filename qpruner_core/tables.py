"""Results for a terminal: tables, and sentences about a run."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from qpruner_core.precision_names import size_order
from qpruner_core.sizes import format_bytes, format_seconds

if TYPE_CHECKING:
    from qpruner_core.report import CompressionReport, Estimate, ExportedFormat, Measurement, Pruning
    from qpruner_core.search.trial import MeasuredTrial

_COMPARED = ("KL", "top-1")


def front_table(trials: list[MeasuredTrial]) -> Table:
    """The Pareto front of a search."""
    table = Table(title="Best allocations found")
    for name in ("bytes loaded", "loss, nats per token", "groups by precision", "found by"):
        table.add_column(name, justify="right" if name in ("bytes loaded", "loss, nats per token") else "left")
    for trial in trials:
        table.add_row(
            f"{trial.bytes:,}",
            f"{trial.loss:.4f}",
            groups_by_precision(trial.precisions),
            trial.origin.replace("_", " "),
        )
    return table


def groups_by_precision(precisions: Sequence[str]) -> str:
    """Counts of groups by precision, in words."""
    return ", ".join(f"{precisions.count(name)} in {name}" for name in sorted(set(precisions), key=size_order))


def measurement_table(rows: list[Measurement]) -> Table:
    """The before/after table, for a terminal of 80 columns."""
    compared = any(row.divergence is not None for row in rows)
    table = Table(title="Before and after", box=SIMPLE_HEAD, padding=(0, 1), caption=_speeds_in(rows))
    names = ("model", "bytes", "of dense", "perplexity", *_COMPARED[: 2 * compared], "tokens/s")
    for name in names:
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=name != "model")
    for row in rows:
        table.add_row(
            row.label,
            format_bytes(row.bytes),
            f"{row.bytes / rows[0].bytes:.0%}",
            f"{row.perplexity:,.2f}",
            *_agreement(row)[: 2 * compared],
            f"{row.tokens_per_second:.1f}",
        )
    return table


def _speeds_in(rows: Sequence[Measurement]) -> str | None:
    """The timed engine, if it was not torch for all rows."""
    engines = {row.label: row.speed_engine for row in rows if row.speed_engine not in (None, "torch")}
    if not engines:
        return None
    return "tokens/s of " + ", ".join(f"{label} in {engine}" for label, engine in engines.items()) + ", else in torch"


def _agreement(row: Measurement) -> tuple[str, str]:
    """Agreement with the dense model's predictions; a dash for the dense model itself."""
    if row.divergence is None or row.top1_agreement is None:
        return "–", "–"
    return f"{row.divergence:.3g}", f"{row.top1_agreement:.1%}"


def how_to_run(exported: ExportedFormat) -> str:
    """The recommended checkpoint and the commands that run it."""
    snippets = [f"With {one.tool}:\n\n{indent(one.text, '    ')}\n" for one in exported.snippets]
    return "\n".join([f"Use {exported.path} ({format_bytes(exported.bytes)}): {exported.title}.", *snippets])


def pruning_line(pruning: Pruning) -> str:
    """The result of pruning, in a sentence."""
    if pruning.ratio == 0:
        return f"Nothing was pruned: quantization alone meets the budget. {pruning.ratio_reason}".rstrip()
    layers = f", {len(pruning.removed_layers)} whole layers" if pruning.removed_layers else ""
    return (
        f"Pruned {pruning.removed_fraction:.1%} of the layers' parameters{layers} "
        f"({pruning.criterion}, {pruning.layout}): {pruning.parameters_before:,} to {pruning.parameters_after:,} "
        f"parameters, {format_bytes(pruning.bytes_before)} to {format_bytes(pruning.bytes_after)} in 16 bits. "
        f"{pruning.ratio_reason}"
    ).rstrip()


def compute_line(report: CompressionReport) -> str:
    """The processor of a report's times and speeds, in a sentence."""
    compute = report.compute
    if compute is None:
        return "The processor was not recorded."
    threads = "" if compute.threads == 1 else "s"
    return (
        f"Computed on {compute.processor} with {compute.threads} CPU thread{threads}, products in {compute.products}; "
        f"the stages took {format_seconds(sum(report.stage_seconds.values()))}."
    )


def estimate_table(result: Estimate) -> Table:
    """Feasibility of a budget, bytes by part, and the expected time."""
    table = Table("part", "bytes", title="Feasible" if result.feasible else "Not feasible")
    for name, value in result.predicted_bytes.model_dump().items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    table.add_section()
    table.add_row(f"smallest model at {result.prune_ratio:.0%} pruned", f"{result.predicted_total_bytes:,}")
    table.add_row("memory budget", f"{result.memory_budget:,}")
    table.add_row("smallest feasible budget", f"{result.smallest_feasible_bytes:,}")
    table.add_row("dense model, 16 bit", f"{result.dense_bytes:,}")
    if (device := result.device) is not None:
        table.add_section()
        table.add_row("device: weights", f"{device.weights:,}")
        table.add_row(f"device: KV cache, {device.sequences} x {device.context:,} tokens", f"{device.kv_cache:,}")
        table.add_row("device: activations", f"{device.activations:,}")
        table.add_row("device: engine", f"{device.engine:,}")
        table.add_row("device: memory, the sum", f"{device.memory:,}")
        table.add_row("device: smallest feasible memory", f"{result.smallest_feasible_memory:,}")
    if result.stage_seconds:
        table.add_section()
        table.add_row("expected time", format_seconds(sum(result.stage_seconds.values())))
    return table
