"""Engine, sessions and the declarative base, for SQLite (WAL) and PostgreSQL alike."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeDecorator

_BUSY_SECONDS = 30
_TURN = "qpruner_turn_to_write"
# Connections that are kept, and the most beside them: together as many as threads that serve requests, so that none of
# them waits for another's. A new one of SQLite takes half a millisecond, because it reads the whole schema first.
_POOL, _OVERFLOW = 10, 30


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC on every database; SQLite would drop the time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables; constraints are named, so that migrations can drop them on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def utc_now() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(UTC)


def as_utc(moment: datetime) -> datetime:
    """An aware ``moment`` in UTC. Raises :class:`ValueError` if that is before the year 1 or after 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("In UTC this is outside the years 1 to 9999.") from error


def create_database_engine(url: str) -> Engine:
    """An engine for ``url``: SQLite with WAL, foreign keys and a busy timeout; PostgreSQL with liveness checks."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            with suppress(OSError):  # connecting gives a better error
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        connect_args = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
        engine = create_engine(parsed, pool_size=_POOL, max_overflow=_OVERFLOW, connect_args=connect_args)
        event.listen(engine, "connect", _configure_sqlite)
        writers = _WritersInTurn()
        event.listen(engine, "begin", writers.begin)
        event.listen(engine, "commit", writers.end)
        event.listen(engine, "rollback", writers.end)
        return engine
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=_POOL, max_overflow=_OVERFLOW,
        connect_args={"connect_timeout": 5},
    )  # fmt: skip


def _configure_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves, see _WritersInTurn
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={1000 * _BUSY_SECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


class _WritersInTurn:
    """Begins transactions of SQLite, and lets one thread of this process write at a time.

    SQLite itself makes writers retry at growing intervals: with many writers, some would wait for seconds.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def begin(self, connection: Connection) -> None:
        """Begin a read-only transaction, which sees the present database and blocks no writer, or one that may write:
        it takes the write lock at once, because reading first and writing later would fail."""
        if connection.get_execution_options().get("read_only", False):
            connection.exec_driver_sql("PRAGMA query_only=ON")
            connection.exec_driver_sql("BEGIN")
            return
        held = self._turn.acquire(timeout=_BUSY_SECONDS)  # without it, SQLite decides
        try:
            connection.exec_driver_sql("PRAGMA query_only=OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            if held:
                self._turn.release()
            raise
        connection.info[_TURN] = held

    def end(self, connection: Connection) -> None:
        """Let the next writer in, if this was one."""
        if connection.info.pop(_TURN, False):
            self._turn.release()


def create_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Sessions on ``engine``; objects stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


def create_read_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Read-only sessions on ``engine``: they block no writer, and a write in one is an error."""
    return sessionmaker(engine.execution_options(read_only=True, postgresql_readonly=True), expire_on_commit=False)


def read_only(sessions: sessionmaker[Session]) -> sessionmaker[Session]:
    """:func:`create_read_session_factory` on the engine of ``sessions``."""
    return create_read_session_factory(sessions.kw["bind"])
