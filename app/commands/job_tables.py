"""Tables of jobs for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from app.commands.session import out
from qpruner_client import Job
from qpruner_core.sizes import format_bytes, format_seconds


def show_jobs(jobs: Sequence[Any]) -> None:
    """A table of jobs."""
    table = Table("id", "status", "stage", "progress", "model", "budget", "created")
    for job in jobs:
        moment = job.created_at.isoformat(sep=" ", timespec="minutes")
        share = f"{job.progress:.0%}"
        table.add_row(job.id, job.status, job.stage or "", share, job.model, format_bytes(job.memory_budget), moment)
    out.print(table)


def show_job(job: Job) -> None:
    """All details of a job, with its result or error."""
    view = job.view
    rows = Table.grid(padding=(0, 2))
    rows.add_row("status", f"{view.status}, {view.progress:.0%} done, attempt {view.attempt} of {view.max_attempts}")
    rows.add_row("model", view.model)
    rows.add_row("dataset", view.dataset)
    rows.add_row("budget", format_bytes(view.memory_budget))
    if view.labels:
        rows.add_row("labels", ", ".join(f"{name}={value}" for name, value in view.labels.items()))
    for name in ("created_at", "started_at", "finished_at"):
        if moment := getattr(view, name):
            rows.add_row(name.removesuffix("_at"), moment.isoformat(sep=" ", timespec="seconds"))
    out.print(rows, soft_wrap=True)
    stages = Table("stage", "status", "seconds", "expected")
    for stage in view.stages:
        took = "" if stage.seconds is None else format_seconds(stage.seconds)
        expected = "" if stage.expected_seconds is None else format_seconds(stage.expected_seconds)
        stages.add_row(stage.name, stage.status, took + (" (reused)" if stage.reused_from else ""), expected)
    out.print(stages)
    show_result(job)


def show_result(job: Job) -> None:
    """The before/after table of a succeeded job, or the error of a failed one."""
    if job.error is not None:
        where = f"{job.error.field}: " if job.error.field else ""
        out.print(f"{where}{job.error.message} {job.error.remedy} ({job.error.code})", markup=False, soft_wrap=True)
    if job.result is None:
        return
    from qpruner_core.report import CompressionReport
    from qpruner_core.tables import compute_line, how_to_run, measurement_table, pruning_line

    report = CompressionReport.model_validate(job.result.model_dump())
    out.print(measurement_table(report.measurements))
    if report.pruning is not None:
        out.print(pruning_line(report.pruning), markup=False, soft_wrap=True)
    out.print(compute_line(report), markup=False, soft_wrap=True)
    if report.exported:
        out.print(how_to_run(report.exported[0]), markup=False, soft_wrap=True)
    out.print(f"Files: qpruner jobs download {job.id}", soft_wrap=True)
