"""The commands of ``qpruner`` and their options, as Typer documents them."""

from __future__ import annotations

import typer
from typer.cli import get_docs_for_click
from typer.models import Context

from app.cli import app


def render() -> str:
    """The page in Markdown."""
    command = typer.main.get_command(app)
    with Context(command, info_name="qpruner") as context:
        return get_docs_for_click(obj=command, ctx=context, name="qpruner", title="Command line")  # type: ignore[arg-type]
