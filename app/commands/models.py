"""``qpruner models``: models on a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from app.commands.session import AsJson, Server, connected, errors, out, print_json
from qpruner_client import Client
from qpruner_client.models import ModelView
from qpruner_core.sizes import format_bytes

app = typer.Typer(no_args_is_help=True, help="Upload, list and delete the models of a service.")
ModelIds = Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of models.")]


@app.command()
def upload(
    path: Annotated[
        Path, typer.Argument(exists=True, help="A folder with config.json and safetensors, or a GGUF file.")
    ],
    name: Annotated[str | None, typer.Option(help="Its name; default: that of the folder or file.")] = None,
    connections: Annotated[int, typer.Option(min=1, max=64, help="Number of parts sent in parallel.")] = 4,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Upload a model and print its id, for use as a model. Run it again to resume."""
    with connected(server, as_json) as client:
        model = upload_with_progress(client, path, name, connections)
        if as_json:
            print_json(model.model_dump(mode="json"))
        else:
            typer.echo(model.id)


@app.command("list")
def list_models(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 50,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """List models, newest first, including those that are not ready."""
    with connected(server, as_json) as client:
        found = list(client.models.list(limit=limit))
        if as_json:
            print_json([one.model_dump(mode="json") for one in found])
            return
        table = Table("id", "name", "status", "architecture", "bytes", "uploaded", "used")
        for one in found:
            moments = [moment.isoformat(sep=" ", timespec="minutes") for moment in (one.created_at, one.used_at)]
            table.add_row(one.id, one.name, one.status, one.model_type or "", format_bytes(one.bytes), *moments)
        out.print(table)


@app.command()
def show(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the model.")],
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Show a model: its state, its files, and the error of a failed one."""
    with connected(server, as_json) as client:
        model = client.models.get(model_id)
        if as_json:
            print_json(model.model_dump(mode="json"))
        else:
            _show(model)


@app.command()
def delete(model_ids: ModelIds, server: Server = None, as_json: AsJson = False) -> None:
    """Delete models; one in use by an unfinished job is refused."""
    with connected(server, as_json) as client:
        for model_id in model_ids:
            client.models.delete(model_id)
            if not as_json:
                out.print(f"{model_id} is deleted.")
        if as_json:
            print_json({"deleted": model_ids})


def upload_with_progress(client: Client, path: Path, name: str | None = None, connections: int = 4) -> ModelView:
    """Upload a model with a bar on a terminal; it is ready afterwards."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        task = bars.add_task(path.name or "model", total=None)
        return client.models.upload(
            path, name=name, connections=connections,
            on_bytes=lambda done, total: bars.update(task, completed=done, total=total),
        )  # fmt: skip


def _show(model: ModelView) -> None:
    rows = Table.grid(padding=(0, 2))
    rows.add_row("name", model.name)
    rows.add_row("status", model.status)
    if model.model_type:
        rows.add_row("architecture", model.model_type)
    rows.add_row("bytes", format_bytes(model.bytes))
    for label, moment in (("uploaded", model.created_at), ("used", model.used_at), ("expires", model.expires_at)):
        if moment:
            rows.add_row(label, moment.isoformat(sep=" ", timespec="seconds"))
    out.print(rows, soft_wrap=True)
    table = Table("file", "bytes", "SHA-256")
    for file in model.files:
        table.add_row(file.name, format_bytes(file.bytes), file.sha256)
    out.print(table)
    if model.error is not None:
        error = model.error
        out.print(f"{error.message} {error.remedy} ({error.code})", markup=False, soft_wrap=True)
