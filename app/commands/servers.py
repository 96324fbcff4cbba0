"""``qpruner servers``: services by name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from app.commands.session import AsJson, errors_as_exit_codes, out, print_json
from qpruner_client import profiles
from qpruner_client.connection import Server

app = typer.Typer(no_args_is_help=True, help="Name services, for `--server NAME`.")
Name = Annotated[str, typer.Argument(help="Name of the server.")]


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Argument(help="Its address: https://host, http://127.0.0.1:8000.")],
    key: Annotated[bool, typer.Option("--key", help="Prompt for an API key, or read one from a pipe.")] = False,
) -> None:
    """Add or change a server. The first one is the default."""
    with errors_as_exit_codes():
        address = Server.checked(url)
        text = None
        if key:
            text = typer.prompt("API key", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
        known = profiles.load().with_server(name, profiles.Profile(address, (text or "").strip() or None))
        profiles.save(known)
        out.print(f"{name} is {address}{', the default' if known.default == name else ''}. It is in {profiles.path()}.")


@app.command("list")
def list_servers(as_json: AsJson = False) -> None:
    """List all servers, without their keys."""
    with errors_as_exit_codes(as_json):
        known = profiles.load()
        rows = [
            {"name": name, "url": one.url, "key": one.api_key is not None, "default": name == known.default}
            for name, one in sorted(known.servers.items())
        ]
    if as_json:
        print_json(rows)
        return
    table = Table("name", "address", "key", "default")
    for row in rows:
        table.add_row(str(row["name"]), str(row["url"]), "yes" if row["key"] else "", "yes" if row["default"] else "")
    out.print(table)


@app.command()
def use(name: Name) -> None:
    """Make a server the default."""
    with errors_as_exit_codes():
        profiles.save(profiles.load().with_default(name))
        out.print(f"{name} is the default.")


@app.command()
def remove(name: Name) -> None:
    """Remove a server."""
    with errors_as_exit_codes():
        profiles.save(profiles.load().without_server(name))
        out.print(f"{name} is removed.")
