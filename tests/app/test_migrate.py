"""Migrations up and down, on both databases, and by several processes at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from app.database import create_database_engine
from app.migrate import METADATA, current, downgrade, upgrade


def _tables(url: str) -> set[str]:
    engine = create_database_engine(url)
    try:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


def test_a_database_goes_up_down_and_up_again(empty_database_url: str) -> None:
    assert current(empty_database_url) is None
    upgrade(empty_database_url)
    assert _tables(empty_database_url) == set(METADATA.tables)
    head = current(empty_database_url)
    assert head is not None
    downgrade(empty_database_url, "base")
    assert (_tables(empty_database_url), current(empty_database_url)) == (set(), None)
    upgrade(empty_database_url)
    assert (_tables(empty_database_url), current(empty_database_url)) == (set(METADATA.tables), head)


def test_the_migrations_make_exactly_the_tables_of_the_models(database_url: str) -> None:
    engine = create_database_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_a_second_upgrade_keeps_the_rows(database_url: str) -> None:
    engine = create_database_engine(database_url)
    insert = (
        "INSERT INTO datasets (id, tenant, filename, key, bytes, sha256, kind, records, created_at) "
        "VALUES ('ds_1', 'default', 'a.txt', 'datasets/ds_1/a.txt', 1, 'x', 'text', 1, '2026-01-01T00:00:00+00:00')"
    )
    with engine.begin() as connection:
        connection.execute(text(insert))
    upgrade(database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM datasets")).scalars().all() == ["ds_1"]
    engine.dispose()


def test_processes_that_upgrade_at_once_all_succeed(empty_database_url: str) -> None:
    code = "import sys; from app.migrate import upgrade; sys.stdin.read(); upgrade(sys.argv[1])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty_database_url], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for process in processes:  # all have imported and wait; now let them go
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    for process in processes:
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 0, errors.decode()
    assert _tables(empty_database_url) == set(METADATA.tables)


def test_a_database_that_does_not_answer_is_an_error_and_not_an_empty_schema() -> None:
    with pytest.raises(OperationalError):
        upgrade("postgresql://nobody@127.0.0.1:1/nothing")
