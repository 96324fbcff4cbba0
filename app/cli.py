"""``qpruner``: the commands of the core; ``serve``, ``worker``, ``migrate`` and ``keys`` of the service; and ``jobs``,
``datasets``, ``models`` and ``servers`` for services anywhere."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.audit_command import audit
from app.command_line import errors_as_exit_codes, load_settings, settings_to_write_with
from app.commands import datasets, jobs, models, servers
from app.commands.download import download
from app.doctor_command import doctor
from app.settings import Settings
from app.store_commands import store_app
from qpruner_core.cli import app as core
from qpruner_core.cli import options
from qpruner_core.program import settle_program

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.keys.models import ApiKey

app = typer.Typer(no_args_is_help=True, help="Compress a language model to a memory budget.")
app.registered_commands += core.registered_commands
app.callback()(options)
keys_app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
app.add_typer(keys_app, name="keys")
jobs.app.command()(download)
app.add_typer(jobs.app, name="jobs")
app.add_typer(datasets.app, name="datasets")
app.add_typer(models.app, name="models")
app.add_typer(servers.app, name="servers")
app.add_typer(store_app, name="store")
app.command()(doctor)
app.command()(audit)
# A file or a pipe has no width to fit into: an id broken over two lines is useless there
_out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
_errors = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; any but loopback requires API keys.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Database, store and scratch space.")] = None,
    worker: Annotated[bool, typer.Option(help="Also run a worker.")] = True,
) -> None:
    """Start the service. Unconfigured parts are embedded. Ctrl-C stops everything."""
    with errors_as_exit_codes():
        from app.embedded import EmbeddedService

        given = {"host": host, "port": port, "data_dir": data_dir}
        settings = load_settings().model_copy(
            update={name: value for name, value in given.items() if value is not None}
        )
        _log_to_stderr(settings)
        service = EmbeddedService(settings, with_worker=worker, on_ready=lambda url: _announce(url, settings, worker))
        code = service.run()
        _out.print("Stopped.")
    raise typer.Exit(code)


@app.command(name="worker")
def run_worker() -> None:
    """Run jobs until SIGTERM or Ctrl-C; an unfinished job goes to another worker."""
    with errors_as_exit_codes():
        from worker.celery_app import run_worker as run

        settings = load_settings()
        _log_to_stderr(settings)
        code = run(settings)
    raise typer.Exit(code)


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="Revision to migrate to.")] = "head",
    down: Annotated[
        bool, typer.Option("--down", help="Migrate down, which deletes the contents of newer tables.")
    ] = False,
) -> None:
    """Bring the database's schema up to date."""
    with errors_as_exit_codes():
        from app.migrate import current, downgrade, upgrade

        url = settings_to_write_with().resolved_database_url
        (downgrade if down else upgrade)(url, to)
        _out.print(f"The database is at revision {current(url) or 'base'}.")


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="Name of the user or program.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, submit, metrics or admin; repeatable.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Tenant whose jobs it sees; default: the embedded tenant.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Days until it expires; default: never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it once: only its hash is kept."""
    from app.audit.entries import record_operator
    from app.database import utc_now
    from app.keys import service
    from app.secrets import load_signing_key

    expires_at = utc_now() + timedelta(days=days) if days else None
    with _key_session() as (session, settings):
        row, text = service.create_key(
            session, load_signing_key(settings), tenant or service.DEFAULT_TENANT, name, scope or ["submit"], expires_at
        )
        record_operator(session, "key.create", row.id, row.tenant)
        session.commit()
    if as_json:
        _out.print_json(json.dumps(_key_fields(row) | {"key": text}))
    else:
        _errors.print(f"{row.id}, tenant {row.tenant}, {', '.join(row.scopes)}. The key will not be shown again:")
        typer.echo(text)


@keys_app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None, as_json: AsJson = False
) -> None:
    """List all keys, including revoked and expired ones."""
    from app.keys import service

    with _key_session() as (session, _):
        rows = [_key_fields(row) for row in service.list_keys(session, tenant)]
    if as_json:
        _out.print_json(json.dumps(rows))
        return
    table = Table("id", "tenant", "name", "scopes", "created", "expires", "revoked")
    for row in rows:
        shown = row | {"scopes": ", ".join(row["scopes"]), "expires_at": row["expires_at"] or "never"}
        table.add_row(*(value or "" for value in shown.values()))
    _out.print(table)


@keys_app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="Its id, as shown by `qpruner keys list`.")]) -> None:
    """Revoke a key, effective from the next request."""
    from app.audit.entries import record_operator
    from app.keys import service

    with _key_session() as (session, _):
        row = service.revoke_key(session, key_id)
        record_operator(session, "key.revoke", row.id, row.tenant)
        session.commit()
    _out.print(f"{row.id} is revoked.")


def _key_fields(row: ApiKey) -> dict[str, Any]:
    def moment(value: datetime | None) -> str | None:
        return value.isoformat(timespec="seconds") if value else None

    return {
        "id": row.id, "tenant": row.tenant, "name": row.name, "scopes": row.scopes,
        "created_at": moment(row.created_at), "expires_at": moment(row.expires_at),
        "revoked_at": moment(row.revoked_at),
    }  # fmt: skip


def _announce(url: str, settings: Settings, with_worker: bool) -> None:
    rows = Table.grid(padding=(0, 2))
    rows.add_row("page", url)
    rows.add_row("API", f"{url}/docs")
    rows.add_row("data", str(settings.data_dir.resolve()))
    rows.add_row("worker", "one, on this machine" if with_worker else "none here: start one with `qpruner worker`")
    _out.print("[bold]QPruner is ready.[/bold] Ctrl-C stops everything.")
    _out.print(rows, soft_wrap=True)


@contextmanager
def _key_session() -> Iterator[tuple[Session, Settings]]:
    from sqlalchemy.orm import Session

    from app.database import create_database_engine
    from app.migrate import upgrade

    with errors_as_exit_codes():
        settings = settings_to_write_with()
        upgrade(settings.resolved_database_url)
        engine = create_database_engine(settings.resolved_database_url)
        try:
            with Session(engine, expire_on_commit=False) as session:
                yield session, settings
        finally:
            engine.dispose()


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)


def main() -> None:
    """Run the command line."""
    settle_program()
    app()


if __name__ == "__main__":
    main()
