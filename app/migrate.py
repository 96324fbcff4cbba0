"""Migrates the database up and down, one process at a time, however many start at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, text

import migrations
from app.database import Base, create_database_engine
from app.datasets import models as _datasets
from app.jobs import models as _jobs
from app.keys import models as _keys
from app.settings import get_settings
from app.webhooks import models as _webhooks

METADATA = Base.metadata
TABLE_MODULES = (_datasets, _jobs, _keys, _webhooks)  # imported so that METADATA knows every table

_ADVISORY_LOCK = 0x7170_7275_6E65_72  # "qpruner": any number that no other user of the database takes


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema at ``url`` up to ``revision``; a second process waits and then finds nothing to do."""
    with _locked_connection(url) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema at ``url`` down to ``revision``; ``"base"`` removes every table."""
    with _locked_connection(url) as connection:
        command.downgrade(_config(connection), revision)


def current(url: str) -> str | None:
    """The revision of the schema at ``url``; ``None`` if it was never migrated."""
    engine = create_database_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


@contextmanager
def migration_connection(config: Config) -> Iterator[Connection]:
    """The connection that a command was given; for Alembic's own command line, one to the configured database."""
    connection = config.attributes.get("connection")
    if isinstance(connection, Connection):
        yield connection
        return
    with _locked_connection(get_settings().resolved_database_url) as opened:
        yield opened


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _locked_connection(url: str) -> Iterator[Connection]:
    """One transaction that no other migration runs beside: it commits whole, or changes nothing."""
    engine = create_database_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _ignore_foreign_keys)
    try:
        with engine.begin() as connection:  # on SQLite this is BEGIN IMMEDIATE, which is the lock
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
            yield connection
            if connection.dialect.name == "sqlite":
                _check_foreign_keys(connection)
    finally:
        engine.dispose()


def _ignore_foreign_keys(connection: object, record: object) -> None:
    # Altering a table on SQLite drops and renames it: with foreign keys on, that would cascade to its children.
    connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[attr-defined]


def _check_foreign_keys(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise RuntimeError(f"The migration would leave {len(broken)} rows without their parent: {broken[:3]}.")
