"""The trials of one job measured by several real workers: the same files as by one, whoever is killed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.jobs.models import Job
from app.jobs.trial_work import TrialWork
from tests.worker.installation import Installation, children_of, eventually, kill, run_installation

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]
CHECKPOINTS = ("mixed.tar", "merged.tar")
SEARCH: dict[str, Any] = {
    "objective": "recovered", "prior": "none", "recovery_steps": 30, "trials": 17, "random_seeds": 1, "batch": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tiny_config: dict[str, Any]) -> dict[str, Any]:
    """A tiny job whose search takes longer than another worker takes to come."""
    return tiny_config | {"allocate": SEARCH, "finetune": {"steps": 2, "warmup_steps": 1}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of what one worker leaves that shares with nobody."""
    with run_installation(tmp_path_factory.mktemp("alone"), {}) as installation:
        installation.start_worker()
        job_id = installation.submit(config)
        installation.wait_for(job_id, "succeeded", "failed", seconds=400)
        assert work_of(installation, job_id) == []
        return checkpoints(installation, job_id)


def work_of(installation: Installation, job_id: str) -> list[TrialWork]:
    with installation.sessions() as session:
        return list(session.scalars(select(TrialWork).where(TrialWork.job_id == job_id).order_by(TrialWork.index)))


def helpers_of(installation: Installation, job_id: str) -> set[str]:
    """Workers that have measured trials of a job that is another's."""
    with installation.sessions() as session:
        owners = {event.data["worker"] for event in installation.events(job_id, "started")}
        rows = session.scalars(select(TrialWork).where(TrialWork.job_id == job_id, TrialWork.loss.is_not(None)))
        return {row.lease_owner for row in rows if row.lease_owner} - owners


def checkpoints(installation: Installation, job_id: str) -> dict[str, str]:
    assert installation.job(job_id).status == "succeeded", installation.describe(job_id)
    found = installation.artifacts(job_id)
    return {name: found[name] for name in CHECKPOINTS}


@pytest.fixture
def shared(tmp_path: Path) -> Any:
    """An installation whose workers share trials."""
    with run_installation(tmp_path, {"share_trials": True}) as installation:
        yield installation


def test_two_workers_measure_the_trials_of_a_job_and_leave_the_files_of_one(
    shared: Installation, config: dict[str, Any], alone: dict[str, str]
) -> None:
    shared.start_worker()
    job_id = shared.submit(config)
    shared.wait_for(job_id, "running")
    shared.start_worker()
    shared.wait_for(job_id, "succeeded", "failed", seconds=400)
    assert checkpoints(shared, job_id) == alone
    (running,) = {event.data["worker"] for event in shared.events(job_id, "started")}
    rows = work_of(shared, job_id)
    assert all(row.loss is not None for row in rows)
    assert len({row.lease_owner for row in rows}) == 2
    assert running in {row.lease_owner for row in rows}
    eventually(lambda: not any("/fits/" in key for key in shared.stored_files(job_id)), 60)
    eventually(lambda: children_of(shared.settings) == [], 30)


def test_trials_of_a_helper_that_is_killed_are_measured_by_another(
    shared: Installation, config: dict[str, Any], alone: dict[str, str]
) -> None:
    shared.start_worker()
    job_id = shared.submit(config)
    shared.wait_for(job_id, "running")
    helper = shared.start_worker()
    mine = f":{helper.pid}"

    def held() -> list[int]:
        rows = work_of(shared, job_id)
        return [row.index for row in rows if row.loss is None and (row.lease_owner or "").endswith(mine)]

    def stopped_with_a_trial() -> bool:
        helper.send_signal(signal.SIGSTOP)  # what it has now, it cannot finish any more
        if not held():
            helper.send_signal(signal.SIGCONT)
        return bool(held())

    eventually(stopped_with_a_trial, 300)
    left = held()
    kill(helper)
    shared.wait_for(job_id, "succeeded", "failed", seconds=400)
    assert checkpoints(shared, job_id) == alone
    owners = {row.index: row.lease_owner for row in work_of(shared, job_id)}
    assert left
    assert all(not (owners[index] or "").endswith(mine) for index in left)


def test_cancelling_ends_the_search_and_its_helpers(shared: Installation, config: dict[str, Any]) -> None:
    shared.start_worker()
    job_id = shared.submit(config)
    shared.wait_for(job_id, "running")
    shared.start_worker()
    eventually(lambda: bool(helpers_of(shared, job_id)), 300)
    shared.ask_to_cancel(job_id)
    shared.wait_for(job_id, "cancelled", seconds=30)
    eventually(lambda: children_of(shared.settings) == [], 30)


def test_a_helper_leaves_when_a_job_waits_to_be_run(
    shared: Installation, config: dict[str, Any], tiny_config: dict[str, Any]
) -> None:
    shared.start_worker()
    job_id = shared.submit(config)
    shared.wait_for(job_id, "running")
    worker = shared.start_worker()
    eventually(lambda: bool(helpers_of(shared, job_id)), 300)
    waiting = shared.submit(tiny_config)
    started = shared.wait_for(waiting, "running", seconds=60)
    with shared.sessions() as session:
        assert session.get_one(Job, job_id).stage == "allocate"
    assert (started.lease_owner or "").endswith(f":{worker.pid}")
    kill(worker, signal.SIGTERM)
