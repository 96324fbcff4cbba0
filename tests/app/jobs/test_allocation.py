"""Another budget, asked of a job whose search is over."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.jobs.models import JobTrial, StageResult
from tests.app.jobs.conftest import MakeJob

SPACE = {
    "groups": ["layers.0", "layers.1"], "layers": [0, 1],
    "group_bytes": [{"4": 10, "16": 40}, {"4": 10, "16": 40}], "fixed_bytes": 100,
}  # fmt: skip
SCORES = {
    "groups": ["layers.0", "layers.1"], "mutual_information": [1.0, 2.0],
    "sensitivity": [{"4": 0.5, "16": 0.0}, {"4": 0.1, "16": 0.0}],
}  # fmt: skip


@pytest.fixture
def searched(make_job: MakeJob, sessions: sessionmaker[Session]) -> str:
    """A job with scores, sizes and three trials, one of which was stopped early."""
    job_id = make_job("succeeded", tenant="default")
    summaries: dict[str, dict[str, Any]] = {"score": SCORES, "allocate": {"trials": 2, "space": SPACE}}
    with sessions.begin() as session:
        for stage, summary in summaries.items():
            session.add(StageResult(job_id=job_id, stage=stage, attempt=1, seconds=1.0, store_prefix="", files=[],
                                    summary=summary, finished_at=utc_now()))  # fmt: skip
        for index, (precisions, size, loss) in enumerate([(["nf4", "nf4"], 120, 0.6), (["nf4", "bf16"], 150, 0.45)]):
            session.add(
                JobTrial(job_id=job_id, index=index, origin="random", precisions=precisions, bytes=size, loss=loss)
            )
        session.add(JobTrial(job_id=job_id, index=2, origin="random", precisions=["nf4", "nf4"], bytes=120, loss=0.55,
                             screening_loss=0.55, stopped_early=True))  # fmt: skip
    return job_id


def test_another_budget_is_answered_by_a_trial_or_by_what_the_scores_say(client: TestClient, searched: str) -> None:
    measured = client.get(f"/jobs/{searched}/allocation", params={"memory_budget": "120B"}).json()
    assert measured == {
        "memory_budget": 120, "groups": ["layers.0", "layers.1"], "precisions": ["nf4", "nf4"], "bytes": 120,
        "loss": 0.6, "measured": True,
    }  # fmt: skip
    better = client.get(f"/jobs/{searched}/allocation", params={"memory_budget": 150}).json()
    assert (better["precisions"], better["bytes"], better["measured"]) == (["bf16", "nf4"], 150, False)
    assert 0.05 < better["loss"] < 0.2


@pytest.mark.parametrize(
    ("budget", "code", "status"),
    [("119", "budget_infeasible", 422), ("much", "budget_invalid", 422), ("-1", "budget_invalid", 422)],
)
def test_a_budget_that_cannot_be_met_or_read_is_told(
    client: TestClient, searched: str, budget: str, code: str, status: int
) -> None:
    answer = client.get(f"/jobs/{searched}/allocation", params={"memory_budget": budget})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (status, code, "memory_budget")
    assert answer.json()["remedy"]
    if code == "budget_infeasible":
        assert answer.json()["smallest_feasible_bytes"] == 120


def test_a_job_without_a_finished_search_says_so(client: TestClient, make_job: MakeJob) -> None:
    answer = client.get(f"/jobs/{make_job('running')}/allocation", params={"memory_budget": 150})
    assert (answer.status_code, answer.json()["code"]) == (409, "search_not_finished")
    missing = client.get(f"/jobs/{make_job('running')}/allocation")
    assert (missing.status_code, missing.json()["field"]) == (422, "memory_budget")
