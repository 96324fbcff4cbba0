"""``POST /jobs`` and ``POST /jobs/estimate`` refuse what a target cannot serve."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.models import Job
from tests.conftest import ON_SQLITE
from tests.unservable import UNSERVABLE, Unservable, write_model


@ON_SQLITE
@pytest.mark.parametrize("case", UNSERVABLE.values(), ids=UNSERVABLE)
def test_what_a_target_cannot_serve_is_answered_with_field_and_remedy_and_queues_nothing(
    case: Unservable, client: TestClient, sources: Path, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    model = write_model(case, sources / tmp_path.name)
    body = {
        "model": str(model), "dataset": str(sources / "text.txt"), "memory_budget": "60kB", "sequence_length": 16,
        **case.settings,
    }  # fmt: skip
    for path in ("/jobs", "/jobs/estimate"):
        answer = client.post(path, json=body)
        problem = answer.json()
        assert answer.status_code == 422, problem
        assert (problem["code"], problem["field"]) == (case.code, case.at), problem
        assert case.says in f"{problem['detail']} {problem['remedy']}"
        assert problem["remedy"]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
