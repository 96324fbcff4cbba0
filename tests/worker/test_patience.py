"""What is tried again, and when trying ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.exc import DBAPIError, InternalError, SQLAlchemyError

from app.database import create_database_engine
from app.store import StoreUnavailableError
from worker.patience import Stopped, is_away, persist


def test_nothing_is_begun_once_the_stop_is_set() -> None:
    stop, calls = threading.Event(), []
    stop.set()
    with pytest.raises(Stopped):
        persist(lambda: calls.append(1), "it", stop)
    assert calls == []


def test_a_database_whose_connections_are_all_taken_is_away(tmp_path: Path) -> None:
    engine = create_engine(
        f"sqlite:///{tmp_path / 'x.db'}", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    with engine.connect(), pytest.raises(SQLAlchemyError) as caught:
        engine.connect()
    assert is_away(caught.value)


def test_a_lost_connection_is_away_and_so_is_a_store_that_refuses() -> None:
    assert is_away(InternalError("select 1", {}, Exception("gone"), connection_invalidated=True))
    assert is_away(StoreUnavailableError("Access denied"))


@pytest.mark.service
def test_a_standby_that_only_reads_is_away_and_a_wrong_statement_is_not(postgres_url: str) -> None:
    engine = create_database_engine(postgres_url)
    with engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        with pytest.raises(DBAPIError) as caught:
            connection.execute(text("CREATE TABLE t (x int)"))
    assert is_away(caught.value)
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SELECT no_such_column"))
    assert not is_away(caught.value)
    engine.dispose()
