"""``qpruner store``: show the store that the database knows, and adopt another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.command_line import errors_as_exit_codes, settings_to_write_with

if TYPE_CHECKING:
    from app.store import ArtifactStore

store_app = typer.Typer(no_args_is_help=True, help="Show the store that the database knows, and adopt another.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@store_app.command("show")
def show(as_json: AsJson = False) -> None:
    """Show the configured store, the one that the database knows, and whether they are the same."""
    with _store() as store:
        facts = _facts(store)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):<18} {'none' if value is None else value}")


@store_app.command("adopt")
def adopt(
    as_json: AsJson = False,
    create: Annotated[bool, typer.Option("--create", help="Create the folder if there is none.")] = False,
) -> None:
    """Adopt the configured store as the database's from now on, with its content.

    Use it if the previous store is lost, or was copied without its marker. Finished jobs whose files are missing can be
    seen but not downloaded, and a job that resumes computes missing stages again.
    """
    from app.audit.entries import record_operator

    with _store() as store:
        before = _facts(store)
        if before["is_the_same"]:
            typer.echo(f"{store} is already the store that the database knows.")
            return
        _require_place(store, create)
        store_id = store.identity.adopt(store, lambda session, found: record_operator(session, "store.adopt", found))
        facts = _facts(store)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{store} is now the database's store, with the id {store_id}.")
    typer.echo(
        f"It has {facts['files_found']} of the {facts['files_looked_for']} newest files that the database names."
    )


def _facts(store: ArtifactStore) -> dict[str, Any]:
    known, found, recorded = store.identity.known(), store.read_marker(), store.identity.recorded_keys()
    return {
        "store": str(store),
        "id_in_the_store": found,
        "known_store": known.location if known else None,
        "known_id": known.id if known else None,
        "is_the_same": known is not None and known.id == found,
        "files_looked_for": len(recorded),
        "files_found": sum(store.holds(key) for key in recorded),
    }


def _require_place(store: ArtifactStore, create: bool) -> None:
    from app.store import LocalStore, StoreUnavailableError

    if isinstance(store, LocalStore) and not store.root.is_dir() and not create:
        raise StoreUnavailableError(
            f"There is no folder {store.root}.", field="store_url", remedy="Mount it, or create it with --create."
        )


@contextmanager
def _store() -> Iterator[ArtifactStore]:
    with errors_as_exit_codes():
        from app.database import create_database_engine
        from app.migrate import upgrade
        from app.store import open_store

        settings = settings_to_write_with()
        upgrade(settings.resolved_database_url)
        engine = create_database_engine(settings.resolved_database_url)
        try:
            yield open_store(settings, engine)
        finally:
            engine.dispose()
