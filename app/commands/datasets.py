"""``qpruner datasets``: datasets on a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.commands.session import AsJson, Server, connected, out, print_json
from qpruner_core.sizes import format_bytes

app = typer.Typer(no_args_is_help=True, help="Upload, list and delete the datasets of a service.")


@app.command()
def upload(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The file; `compress --help` lists the accepted forms.")
    ],
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file and print its id, for use as a dataset."""
    with connected(server, as_json) as client:
        dataset = client.datasets.upload(file)
        if as_json:
            print_json(dataset.model_dump(mode="json"))
        else:
            typer.echo(dataset.id)


@app.command("list")
def list_datasets(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 50,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """List datasets, newest first."""
    with connected(server, as_json) as client:
        found = list(client.datasets.list(limit=limit))
        if as_json:
            print_json([one.model_dump(mode="json") for one in found])
            return
        table = Table("id", "file", "kind", "records", "bytes", "uploaded")
        for one in found:
            moment = one.created_at.isoformat(sep=" ", timespec="minutes")
            table.add_row(one.id, one.filename, one.kind, f"{one.records:,}", format_bytes(one.bytes), moment)
        out.print(table)


@app.command()
def delete(
    dataset_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of datasets.")],
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Delete datasets; one in use by an unfinished job is refused."""
    with connected(server, as_json) as client:
        for dataset_id in dataset_ids:
            client.datasets.delete(dataset_id)
            if not as_json:
                out.print(f"{dataset_id} is deleted.")
        if as_json:
            print_json({"deleted": dataset_ids})
