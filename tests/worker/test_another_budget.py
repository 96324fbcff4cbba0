"""The real pipeline in a real worker: a second budget costs what it changes, and gives the bytes of a fresh run."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from sqlalchemy import func, select

from app.jobs import service
from app.jobs.models import JobTrial
from qpruner_core.events import STAGES
from tests.worker.installation import Installation, kill

pytestmark = pytest.mark.service
CHECKPOINTS = ("mixed.tar", "merged.tar", "recipe.json", "README.md")


def trials(installation: Installation, job_id: str) -> list[tuple[list[str], float]]:
    with installation.sessions() as session:
        rows = session.scalars(select(JobTrial).where(JobTrial.job_id == job_id).order_by(JobTrial.index)).all()
        return [(row.precisions, row.loss) for row in rows]


def measured_in_full(installation: Installation, job_id: str) -> int:
    whole = select(func.count()).where(JobTrial.job_id == job_id, ~JobTrial.stopped_early)
    with installation.sessions() as session:
        return session.scalar(whole) or 0


@pytest.mark.timeout(600)
def test_another_budget_reuses_pruning_and_scores_and_gives_the_bytes_of_a_fresh_run(
    installation: Installation, tiny_config: dict[str, Any]
) -> None:
    prune = {**tiny_config["prune"], "ratio": 0.2, "width_multiple": 8, "protect_first": 1, "protect_last": 1}
    config = tiny_config | {"prune": prune}
    other = config | {"memory_budget": "285kB"}
    worker = installation.start_worker()
    fresh = installation.submit(other, tenant="alone")
    first = installation.submit(config)
    for job_id in (fresh, first):
        job = installation.wait_for(job_id, "succeeded", "failed")
        assert job.status == "succeeded", installation.describe(job_id)
    second = installation.submit(other)
    assert installation.wait_for(second, "succeeded", "failed").status == "succeeded", installation.describe(second)
    kill(worker, signal.SIGTERM)
    assert installation.reused(fresh) == installation.reused(first) == {}
    assert installation.reused(second) == {"prune": first, "score": first}
    assert installation.stages_started(second) == list(STAGES[2:])
    found, wanted = installation.artifacts(second), installation.artifacts(fresh)
    assert {name: found[name] for name in CHECKPOINTS} == {name: wanted[name] for name in CHECKPOINTS}
    assert trials(installation, second) == trials(installation, fresh)
    log = (installation.settings.data_dir.parent / "worker-1.log").read_text()
    assert f"{second}: {measured_in_full(installation, first)} allocations were measured before" in log
    with installation.sessions() as session:
        answer = service.answer_budget(session, "default", first, 285_000)
    assert answer.bytes <= 285_000
    assert len(answer.precisions) == len(answer.groups)
