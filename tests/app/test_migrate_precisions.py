"""Migration 0004: trials and results have names of precisions where they had bits, and lose nothing on the way back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from app.database import create_database_engine
from app.migrate import downgrade, upgrade

RESULT = {"groups": ["layers.0", "embeddings"], "bits": [4, 8], "prune_ratio": 0.2}
TRIALS = [[4, 8], [16, 16]]


def insert(url: str) -> None:
    """A finished job with a result and trials, and one in the queue, as revision 0003 holds them."""
    job = (
        "INSERT INTO jobs (id, tenant, status, progress, model, dataset, memory_budget, labels, config, "
        "request_sha256, attempt, max_attempts, created_at, result) VALUES (:id, 'default', :status, 0, 'm', 'd', 1, "
        "'{}', '{}', 'x', 0, 3, '2026-01-01T00:00:00+00:00', :result)"
    )
    trial = (
        'INSERT INTO job_trials (job_id, "index", origin, bits, bytes, loss, stopped_early) '
        "VALUES ('job_1', :index, 'random', :bits, 9, 0.5, false)"
    )
    engine = create_database_engine(url)
    with engine.begin() as connection:
        connection.execute(text(job), {"id": "job_1", "status": "succeeded", "result": json.dumps(RESULT)})
        connection.execute(text(job), {"id": "job_2", "status": "queued", "result": None})
        for index, bits in enumerate(TRIALS):
            connection.execute(text(trial), {"index": index, "bits": json.dumps(bits)})
    engine.dispose()


def stored(url: str, column: str) -> tuple[list[Any], list[Any]]:
    """``column`` of the trials, and the results of the jobs."""
    engine = create_database_engine(url)
    with engine.connect() as connection:
        trials = connection.execute(text(f'SELECT {column} FROM job_trials ORDER BY "index"')).scalars().all()
        results = connection.execute(text("SELECT result FROM jobs ORDER BY id")).scalars().all()
    engine.dispose()
    return [_parsed(one) for one in trials], [_parsed(one) for one in results]


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


@pytest.fixture
def before(empty_database_url: str) -> str:
    """A database at revision 0003 with rows."""
    upgrade(empty_database_url, "0003")
    insert(empty_database_url)
    return empty_database_url


def test_trials_and_results_have_the_names_of_their_bits(before: str) -> None:
    upgrade(before, "0004")
    trials, results = stored(before, "precisions")
    assert trials == [["nf4", "int8"], ["bf16", "bf16"]]
    named = {"groups": RESULT["groups"], "precisions": ["nf4", "int8"], "prune_ratio": 0.2}
    assert results == [named, None]


def test_the_way_back_gives_the_rows_that_there_were(before: str) -> None:
    upgrade(before, "0004")
    downgrade(before, "0003")
    assert stored(before, "bits") == (TRIALS, [RESULT, None])
