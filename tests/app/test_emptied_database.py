"""The PostgreSQL database that tests share: no test sees what the one before left."""

from __future__ import annotations

import psycopg
import pytest

from tests.postgres import EmptiedDatabase

pytestmark = pytest.mark.service


def test_rows_sequences_and_connections_of_the_test_before_are_gone(emptied_postgres: EmptiedDatabase) -> None:
    left = psycopg.connect(emptied_postgres.emptied(), autocommit=True)
    insert = "INSERT INTO obsolete_files (prefix, due_at) VALUES ('jobs/1/', now()) RETURNING id"
    first = left.execute(insert).fetchone()
    with psycopg.connect(emptied_postgres.emptied(), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM obsolete_files").fetchone() == (0,)
        assert connection.execute(insert).fetchone() == first
    with pytest.raises(psycopg.OperationalError):
        left.execute(insert)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE jobs ADD COLUMN surplus integer", "DROP TABLE obsolete_files", "DROP TABLE alembic_version",
        "UPDATE alembic_version SET version_num = 'of the future'", "CREATE INDEX surplus ON jobs (priority)",
        "ALTER TABLE jobs ALTER COLUMN tenant DROP NOT NULL",
    ],
)  # fmt: skip
def test_a_changed_schema_is_not_handed_on(change: str, emptied_postgres: EmptiedDatabase) -> None:
    url = emptied_postgres.emptied()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(change)
    assert emptied_postgres.emptied() != url
