"""A job survives whatever is killed under it, and ends with the same bytes."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from qpruner_core.events import STAGES
from tests.worker.installation import Installation, children_of, eventually, kill, run_installation

pytestmark = pytest.mark.service
CHECKPOINTS = ("mixed.tar", "merged.tar")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_config: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of what an undisturbed run of the tiny job leaves."""
    with run_installation(tmp_path_factory.mktemp("undisturbed"), {}) as installation:
        worker = installation.start_worker()
        job_id = installation.submit(tiny_config)
        assert installation.wait_for(job_id, "succeeded", "failed").status == "succeeded", installation.describe(job_id)
        kill(worker, signal.SIGTERM)
        return installation.artifacts(job_id)


@pytest.mark.timeout(600)
def test_a_job_whose_worker_is_killed_in_every_stage_ends_with_the_same_bytes(
    installation: Installation, tiny_config: dict[str, Any], undisturbed: dict[str, str]
) -> None:
    job_id = installation.submit(tiny_config, max_attempts=len(STAGES) + 1)
    for stage in STAGES:
        worker = installation.start_worker()
        installation.wait_for_stage(job_id, stage)
        kill(worker)
        eventually(lambda: children_of(installation.settings) == [])
        installation.wait_for(job_id, "queued")
    installation.start_worker()
    job = installation.wait_for(job_id, "succeeded", "failed")
    assert job.status == "succeeded", installation.describe(job_id)
    assert job.attempt == len(STAGES) + 1
    stages = installation.stages_started(job_id)
    assert all(stages.count(stage) <= 2 for stage in STAGES), f"a finished stage was done again: {stages}"
    found = installation.artifacts(job_id)
    assert {name: found[name] for name in CHECKPOINTS} == {name: undisturbed[name] for name in CHECKPOINTS}
