"""``qpruner audit``."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from app.command_line import errors_as_exit_codes, load_settings

if TYPE_CHECKING:
    from app.audit.models import AuditEntry

COLUMNS = ("at", "tenant", "actor", "action", "target", "request_id", "address")
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def audit(
    tenant: Annotated[str | None, typer.Option(help="Only entries of this tenant.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=_FORMATS, help=("Only entries from this time on (UTC)."))
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_FORMATS, help=("Only entries before this time (UTC)."))
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of one JSON object per line.")] = False,
) -> None:
    """Export who changed what, oldest first: one JSON object per line, or CSV."""
    with errors_as_exit_codes():
        from datetime import UTC

        from app.audit.entries import entries
        from app.database import create_database_engine, create_read_session_factory
        from app.migrate import require_current_schema

        engine = create_database_engine(load_settings().resolved_database_url)
        try:
            require_current_schema(engine)
            bounds = [None if moment is None else moment.replace(tzinfo=UTC) for moment in (since, until)]
            table = csv.writer(sys.stdout, lineterminator="\n") if as_csv else None
            if table:
                table.writerow(COLUMNS)
            with create_read_session_factory(engine)() as session:
                for entry in entries(session, tenant=tenant, since=bounds[0], until=bounds[1]):
                    values = _values(entry)
                    if table:
                        table.writerow(values.values())
                    else:
                        typer.echo(json.dumps(values))
        finally:
            engine.dispose()


def _values(entry: AuditEntry) -> dict[str, str | None]:
    return {name: getattr(entry, name) for name in COLUMNS} | {"at": entry.at.isoformat()}
