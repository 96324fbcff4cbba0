"""The real pipeline in a real worker: a second budget costs what it changes."""

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


def measured_in_full(installation: Installation, job_id: str) -> int:
    whole = select(func.count()).where(JobTrial.job_id == job_id, ~JobTrial.stopped_early)
    with installation.sessions() as session:
        return session.scalar(whole) or 0


@pytest.mark.timeout(600)
def test_another_budget_reuses_pruning_and_scores_and_what_was_measured(
    installation: Installation, tiny_config: dict[str, Any]
) -> None:
    prune = {**tiny_config["prune"], "ratio": 0.2, "width_multiple": 8, "protect_first": 1, "protect_last": 1}
    config = tiny_config | {"prune": prune}
    other = config | {"memory_budget": "285kB"}
    worker = installation.start_worker()
    first = installation.submit(config)
    assert installation.wait_for(first, "succeeded", "failed").status == "succeeded", installation.describe(first)
    second = installation.submit(other)
    assert installation.wait_for(second, "succeeded", "failed").status == "succeeded", installation.describe(second)
    kill(worker, signal.SIGTERM)
    assert installation.reused(first) == {}
    assert installation.reused(second) == {"prune": first, "score": first}
    assert installation.stages_started(second) == list(STAGES[2:])
    log = (installation.settings.data_dir.parent / "worker-1.log").read_text()
    assert f"{second}: {measured_in_full(installation, first)} allocations were measured before" in log
    with installation.sessions() as session:
        answer = service.answer_budget(session, "default", first, 285_000)
    assert answer.bytes <= 285_000
    assert len(answer.precisions) == len(answer.groups)
