"""The real pipeline in real worker processes: a job survives what is killed under it, and ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

import pytest
import torch

from qpruner_core import compress, parse_config
from qpruner_core.events import STAGES, StageName
from qpruner_core.stage_store import file_sha256
from tests.worker.installation import Installation, children_of, eventually, kill
from worker.artifacts import pack_directory

pytestmark = pytest.mark.service
EVERY = pytest.param(STAGES, marks=pytest.mark.slow, id="every stage")
"""Each attempt starts a process that imports for seconds, so the usual tests take one of the stages."""
CHECKPOINTS = ("mixed.tar", "merged.tar")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_config: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of the checkpoints of the tiny job, made in this process, where nothing disturbs it."""
    root = tmp_path_factory.mktemp("undisturbed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a job has here
    try:
        compress(parse_config(tiny_config), root / "out")
    finally:
        torch.set_num_threads(threads)
    hashes = {}
    for name in CHECKPOINTS:
        pack_directory(root / "out" / name.removesuffix(".tar"), root / name)
        hashes[name] = file_sha256(root / name)
    return hashes


@pytest.mark.slow  # the next test kills a worker in one stage
@pytest.mark.timeout(600)
def test_a_job_whose_worker_is_killed_in_every_stage_ends_with_the_same_bytes(
    installation: Installation, tiny_config: dict[str, Any], undisturbed: dict[str, str]
) -> None:
    job_id = installation.submit(tiny_config, max_attempts=len(STAGES) + 1)
    for stage in STAGES:
        kill_the_worker_in(stage, job_id, installation.start_worker(), installation)
    installation.start_worker()
    ends_as(undisturbed, job_id, installation, attempt=len(STAGES) + 1)
    stages = installation.stages_started(job_id)
    assert all(stages.count(stage) <= 2 for stage in STAGES), f"a finished stage was done again: {stages}"


@pytest.mark.timeout(600)
def test_a_job_survives_a_broker_that_goes_and_comes_back_the_death_of_its_process_alone_and_that_of_its_worker(
    installation: Installation, tiny_config: dict[str, Any], undisturbed: dict[str, str]
) -> None:
    installation.valkey.stop()
    job_id = installation.submit(tiny_config)
    worker = installation.start_worker()
    installation.wait_for_log("Cannot connect to")
    assert installation.job(job_id).status == "queued"
    installation.valkey.start()
    installation.wait_for_stage(job_id, "score")
    installation.valkey.stop()
    (child,) = children_of(installation.settings)
    os.kill(child, signal.SIGKILL)
    installation.wait_for(job_id, "queued")
    assert worker.poll() is None
    installation.valkey.start()
    kill_the_worker_in("finetune", job_id, worker, installation)
    installation.start_worker()
    ends_as(undisturbed, job_id, installation, attempt=3)
    begun_again = ["score", "finetune"]
    assert installation.stages_started(job_id) == sorted([*STAGES, *begun_again], key=STAGES.index)


def kill_the_worker_in(
    stage: StageName, job_id: str, worker: subprocess.Popen[bytes], installation: Installation
) -> None:
    """Kill it as soon as the job has begun ``stage``, and wait until the job is queued again."""
    installation.wait_for_stage(job_id, stage, again=True)
    kill(worker)
    eventually(lambda: children_of(installation.settings) == [])
    installation.wait_for(job_id, "queued")


def ends_as(undisturbed: dict[str, str], job_id: str, installation: Installation, *, attempt: int) -> None:
    """Wait for the job, and compare its checkpoints with those of a run that nothing disturbed."""
    job = installation.wait_for(job_id, "succeeded", "failed")
    assert (job.status, job.attempt) == ("succeeded", attempt), installation.describe(job_id)
    found = installation.artifacts(job_id)
    assert {name: found[name] for name in CHECKPOINTS} == undisturbed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cancelled_in", [("allocate",), EVERY])
def test_a_job_is_cancelled_within_five_seconds(
    installation: Installation, tiny_config: dict[str, Any], undisturbed: dict[str, str], cancelled_in: tuple[str, ...]
) -> None:
    installation.start_worker()
    job_id = installation.submit(tiny_config)
    for stage in cancelled_in:
        installation.wait_for_stage(job_id, stage, again=True)
        asked = time.monotonic()
        installation.ask_to_cancel(job_id)
        installation.wait_for(job_id, "cancelled", "succeeded")
        assert time.monotonic() - asked < 5
        assert installation.job(job_id).status == "cancelled"
        assert children_of(installation.settings) == []
        installation.requeue(job_id)
    ends_as(undisturbed, job_id, installation, attempt=1)


@pytest.mark.slow  # tests/app/test_embedded.py stops one within a job in every run
def test_a_worker_told_to_stop_gives_its_job_to_another(
    installation: Installation, tiny_config: dict[str, Any]
) -> None:
    job_id = installation.submit(tiny_config, max_attempts=1)
    first = installation.start_worker()
    installation.wait_for_stage(job_id, "allocate")
    second = installation.start_worker()
    first.send_signal(signal.SIGTERM)
    assert first.wait(15) == 0
    job = installation.wait_for(job_id, "succeeded", "failed")
    assert (job.status, job.attempt) == ("succeeded", 1), installation.describe(job_id)
    owners = [event.data["worker"] for event in installation.events(job_id, "started")]
    assert [int(owner.rsplit(":", 1)[1]) for owner in owners] == [first.pid, second.pid]
    second.send_signal(signal.SIGINT)
    assert second.wait(15) == 0
    assert children_of(installation.settings) == []
