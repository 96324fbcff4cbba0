"""``qpruner doctor``."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.command_line import errors_as_exit_codes, load_settings

if TYPE_CHECKING:
    from app.doctor.finding import Finding

_out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
_STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check every configured part, and print a table. Exit code 1 if a part has failed."""
    with errors_as_exit_codes():
        settings = load_settings()
        logging.basicConfig(level=logging.DEBUG if settings.log_level == "DEBUG" else logging.CRITICAL, force=True)
        from app.doctor.examination import examine

        findings = examine(settings)
    healthy = all(finding.status != "failed" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}))
    else:
        _show(findings)
    sys.stdout.flush()
    if any("not checked" in finding.detail for finding in findings):
        os._exit(1)  # the hanging thread would keep the process alive
    raise typer.Exit(0 if healthy else 1)


def _show(findings: Sequence[Finding]) -> None:
    table = Table("part", "state", "finding", box=None, padding=(0, 2, 0, 0))
    for finding in findings:
        style = _STYLES[finding.status]
        detail = escape(finding.detail)
        if finding.remedy:
            detail = f"{detail.rstrip('.')}. [bold]{escape(finding.remedy)}[/bold]"
        table.add_row(finding.part, f"[{style}]{finding.status}[/{style}]", detail)
    _out.print(table)
