"""Migrates the database up and down, one process at a time, even if many start at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event, text

import migrations
from app.audit import models as _audit
from app.database import Base, create_database_engine
from app.database_errors import SchemaMismatchError
from app.datasets import models as _datasets
from app.jobs import models as _jobs
from app.jobs import trial_work as _trial_work
from app.keys import models as _keys
from app.settings import get_settings
from app.store import models as _store
from app.uploads import models as _uploads
from app.webhooks import models as _webhooks
from qpruner_core.errors import UserError

METADATA = Base.metadata
TABLE_MODULES = (
    _audit,
    _datasets,
    _jobs,
    _trial_work,
    _keys,
    _store,
    _uploads,
    _webhooks,
)  # imported so that METADATA knows every table

_ADVISORY_LOCK = 0x7170_7275_6E65_72  # "qpruner": an arbitrary number that no other user of the database takes


class UnknownRevisionError(UserError):
    """There is no migration with that name."""

    code = "unknown_revision"


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema at ``url`` up to ``revision``; a second process waits and then finds nothing to do."""
    with _locked_connection(url) as connection:
        require_known_revision(connection)
        _require_revision(revision)
        command.upgrade(_config(connection), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema at ``url`` down to ``revision``; ``"base"`` removes every table."""
    with _locked_connection(url) as connection:
        require_known_revision(connection)
        _require_revision(revision)
        command.downgrade(_config(connection), revision)


def head() -> str:
    """The schema revision of this release."""
    return str(_scripts().get_current_head())


def require_known_revision(connection: Connection) -> str | None:
    """The revision of the schema, if this release knows it; ``None`` if it was never migrated.

    Raises:
        SchemaMismatchError: a later release has migrated it.
    """
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in _revisions():
        raise SchemaMismatchError(
            f"The database is at revision {revision}, which is unknown to this release: its newest is {head()}.",
            field="database_url",
            remedy="Start the release that migrated it, or migrate down with that release: `qpruner migrate --down`.",
        )
    return revision


def require_current_schema(engine: Engine) -> str:
    """The revision of the schema, which is this release's.

    Raises:
        SchemaMismatchError: it is older or newer, or there is none.
        SQLAlchemyError: the database is unreachable.
    """
    with engine.execution_options(read_only=True).connect() as connection:  # a writer must not keep readiness waiting
        revision = require_known_revision(connection)
    if revision != head():
        raise SchemaMismatchError(
            f"The database is at revision {revision or 'base'}, not at {head()}.",
            field="database_url",
            remedy="Run `qpruner migrate`.",
        )
    return revision


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
    """The connection passed to a command; for Alembic's own command line, one to the configured database."""
    connection = config.attributes.get("connection")
    if isinstance(connection, Connection):
        yield connection
        return
    with _locked_connection(get_settings().resolved_database_url) as opened:
        yield opened


def _require_revision(revision: str) -> None:
    if revision not in {"head", "base", *_revisions()}:
        raise UnknownRevisionError(
            f"There is no revision {revision!r}.",
            field="to",
            remedy=f"Choose head, base or one of {', '.join(sorted(_revisions()))}.",
        )


def _revisions() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(migrations.__file__).parent))


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _locked_connection(url: str) -> Iterator[Connection]:
    """One transaction without concurrent migrations: it commits as a whole, or changes nothing."""
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
