"""The supervisor against the real child process around a scripted pipeline."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import tarfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.database import utc_now
from app.ids import new_id
from app.jobs import lease as leases
from app.jobs.models import Artifact, Job, JobMetric, JobTrial
from app.jobs.speeds import latest_speed
from app.store import StoreUnavailableError
from qpruner_core.events import STAGES
from qpruner_core.speed.record import SpeedRecord
from tests.made_up_speed import made_up_speed
from tests.worker.bench import CONFIG, Bench
from tests.worker.installation import children_of, eventually
from worker.scratch import Scratch, scratch_root
from worker.supervisor import Supervisor

pytestmark = pytest.mark.service


def test_a_run_leaves_result_artifacts_history_and_nothing_in_scratch(bench: Bench) -> None:
    installation = bench.installation
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.join()
    job = installation.job(job_id)
    assert (job.status, job.progress, job.error) == ("succeeded", 1.0, None), installation.describe(job_id)
    assert job.result is not None
    assert job.result["model"] == "m"
    assert job.lease_token is None
    assert job.expected_seconds == dict.fromkeys(STAGES, 2.5)
    with installation.sessions() as session:
        assert latest_speed(session) == SpeedRecord(speed=made_up_speed())
    assert installation.stages_started(job_id) == list(STAGES)
    assert installation.artifacts(job_id).keys() == {"mixed.tar", "merged.tar", "report.json"}
    assert not any(entry.is_dir() for entry in scratch_root(installation.settings).iterdir())
    with installation.sessions() as session:
        assert len(session.scalars(select(JobMetric)).all()) == 20 * len(STAGES)
        assert len(session.scalars(select(JobTrial)).all()) == 4


def test_only_artifacts_and_the_search_stay_of_a_finished_job(bench: Bench) -> None:
    installation = bench.installation
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.join()
    stored = installation.stored_files(job_id)
    assert stored == installation.recorded_files(job_id)
    assert {tuple(key.split("/")[3:]) for key in stored} == {
        *(("stages", stage, name) for stage in ("prune", "score", "allocate") for name in ("data.bin", "stage.json")),
        *(("artifacts", name) for name in ("mixed.tar", "merged.tar", "report.json")),
    }


def test_the_stored_tar_holds_the_checkpoint_under_its_name(bench: Bench, tmp_path: Path) -> None:
    job_id = bench.installation.submit(CONFIG)
    bench.start(job_id)
    bench.join()
    with bench.installation.sessions() as session:
        key = session.get_one(Artifact, (job_id, "mixed.tar")).key
    bench.installation.store.get_file(key, tmp_path / "mixed.tar")
    with tarfile.open(tmp_path / "mixed.tar") as tar:
        assert tar.getnames() == ["mixed", "mixed/model.safetensors"]


def test_the_child_sees_no_secret_of_the_service(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "QPRUNER_SIGNING_KEY": "s3cret", "QPRUNER_DATABASE_URL": "s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret",
        "HF_TOKEN": "s3cret", "PGPASSWORD": "s3cret", "SOME_TOKEN": "s3cret",
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    bench.direct("prune", "hold")
    bench.start(bench.installation.submit(CONFIG))
    bench.begun("prune")
    (child,) = children_of(bench.installation.settings)
    assert b"s3cret" not in Path(f"/proc/{child}/environ").read_bytes()
    assert b"PATH=" in Path(f"/proc/{child}/environ").read_bytes()


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancelled_job_ends_within_five_seconds_in_any_stage(bench: Bench, stage: str) -> None:
    installation = bench.installation
    bench.direct(stage, "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.begun(stage)
    asked = time.monotonic()
    installation.ask_to_cancel(job_id)
    installation.wait_for(job_id, "cancelled")
    assert children_of(installation.settings) == []
    assert time.monotonic() - asked < 5
    assert installation.events(job_id)[-1].type == "cancelled"


def test_a_cancelled_job_goes_on_from_its_last_stage_when_it_is_queued_again(bench: Bench) -> None:
    installation = bench.installation
    hold = bench.direct("quantize", "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    installation.wait_for_stage(job_id, "quantize")
    installation.ask_to_cancel(job_id)
    bench.join()
    hold.unlink()
    installation.requeue(job_id)
    bench.start(job_id)
    bench.join()
    assert installation.job(job_id).status == "succeeded", installation.describe(job_id)
    assert installation.stages_started(job_id).count("allocate") == 1


def test_another_host_goes_on_from_the_store_with_the_same_bytes(bench: Bench) -> None:
    installation = bench.installation
    undisturbed = installation.submit(CONFIG, tenant="another")  # whose stages nobody else may take
    bench.start(undisturbed)
    bench.join()
    hold = bench.direct("finetune", "hold")
    job_id = installation.submit(CONFIG)
    supervisor = bench.start(job_id)
    installation.wait_for_stage(job_id, "finetune")
    supervisor.stop()
    bench.join()
    assert installation.job(job_id).status == "queued"
    shutil.rmtree(scratch_root(installation.settings))
    hold.unlink()
    bench.start(job_id, "another")
    bench.join()
    stages = installation.stages_started(job_id)
    assert {stage: stages.count(stage) for stage in STAGES if stages.count(stage) != 1} == {"finetune": 2}
    assert installation.artifacts(job_id) == installation.artifacts(undisturbed)


def test_a_stage_that_the_store_has_lost_is_done_again(bench: Bench) -> None:
    installation = bench.installation
    hold = bench.direct("score", "hold")
    job_id = installation.submit(CONFIG)
    supervisor = bench.start(job_id)
    installation.wait_for_stage(job_id, "score")
    supervisor.stop()
    bench.join()
    shutil.rmtree(scratch_root(installation.settings))
    installation.store.delete_prefix(installation.place_of(job_id, "prune") + "data.bin")
    hold.unlink()
    bench.start(job_id)
    bench.join()
    assert installation.job(job_id).status == "succeeded", installation.describe(job_id)
    assert installation.stages_started(job_id).count("prune") == 2
    assert installation.stored_files(job_id) == installation.recorded_files(job_id)


def test_a_stopped_worker_gives_its_job_back_without_counting_the_attempt(bench: Bench) -> None:
    installation = bench.installation
    bench.direct("prune", "hold")
    job_id = installation.submit(CONFIG)
    supervisor = bench.start(job_id)
    bench.begun("prune")
    supervisor.stop()
    bench.join()
    job = installation.job(job_id)
    assert (job.status, job.attempt, job.lease_token) == ("queued", 0, None)
    assert children_of(installation.settings) == []


def test_a_poison_job_fails_after_its_attempts_with_the_reason(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    installation = bench.installation
    bench.direct("score", "crash")
    job_id = installation.submit(CONFIG, max_attempts=2)
    for _ in range(3):
        bench.start(job_id)
        bench.join()
    job = installation.job(job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "worker_crashed"
    assert "SIGKILL" in job.error["message"]
    assert "see the worker's log of 20" in job.error["message"]
    assert "Killed by the test" not in job.error["message"]  # what a library writes may hold a secret
    assert "Killed by the test" in caplog.text
    assert job.attempt == 2
    assert len(installation.events(job_id, "attempt_lost")) == 2


@pytest.mark.parametrize(
    ("error", "code", "user"),
    [("DatasetInvalidError", "dataset_invalid", True), ("TrainingDivergedError", "training_diverged", False)],
)
def test_a_named_error_fails_the_job_at_once(bench: Bench, error: str, code: str, user: bool) -> None:
    bench.direct("finetune", "raise", error)
    job_id = bench.installation.submit(CONFIG)
    bench.start(job_id)
    bench.join()
    job = bench.installation.job(job_id)
    assert (job.status, job.attempt) == ("failed", 1)
    assert job.error == {
        "code": code, "message": "It cannot be done.", "field": "dataset", "remedy": "Do another.", "user": user
    }  # fmt: skip


def test_a_child_killed_alone_costs_one_attempt(bench: Bench) -> None:
    installation = bench.installation
    hold = bench.direct("evaluate", "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.begun("evaluate")
    (child,) = children_of(installation.settings)
    os.kill(child, signal.SIGKILL)
    bench.join()
    assert installation.job(job_id).status == "queued"
    hold.unlink()
    bench.start(job_id)
    bench.join()
    job = installation.job(job_id)
    assert (job.status, job.attempt) == ("succeeded", 2)


def test_a_fault_of_the_worker_is_told_in_its_log_and_not_to_the_tenant(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = bench.installation.submit(CONFIG, max_attempts=1)
    bench.start(job_id, parts=replace(bench.parts(), command=("/no/such/secret/program",)))
    bench.join()
    error = bench.installation.job(job_id).error
    assert error is not None
    assert (error["code"], error["user"]) == ("worker_fault", False)
    assert "see the worker's log of 20" in error["message"]
    assert "secret" not in str([event.data for event in bench.installation.events(job_id)])
    assert "/no/such/secret/program" in caplog.text


def test_deleting_scratch_folders_keeps_nobody_from_writing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = bench.installation
    ended = scratch_root(installation.settings) / new_id("job")
    ended.mkdir(parents=True)
    delete, wrote = Scratch.delete, []

    def write_meanwhile(scratch: Scratch) -> None:
        with closing(sqlite3.connect(installation.settings.data_dir / "qpruner.db", timeout=0.1)) as other:
            other.execute("BEGIN IMMEDIATE")
            wrote.append(scratch.root)
        delete(scratch)

    monkeypatch.setattr(Scratch, "delete", write_meanwhile)
    Supervisor(bench.parts()).sweep()
    assert wrote == [ended]
    assert not ended.exists()


def test_of_two_workers_one_gets_the_job(bench: Bench) -> None:
    hold = bench.direct("prune", "hold")
    job_id = bench.installation.submit(CONFIG)
    for owner in ("first", "second"):
        bench.start(job_id, owner)
    bench.begun("prune")
    assert len(children_of(bench.installation.settings)) == 1
    hold.unlink()
    bench.join()
    assert len(bench.installation.events(job_id, "started")) == 1
    assert bench.installation.job(job_id).status == "succeeded"


def test_a_worker_that_has_lost_its_job_stops_and_writes_nothing_more(bench: Bench) -> None:
    installation = bench.installation
    bench.direct("score", "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id, "old")
    bench.begun("score")
    with installation.sessions.begin() as session:
        session.execute(update(Job).values(lease_expires_at=utc_now(), lease_token="another's"))
    bench.join()
    assert children_of(installation.settings) == []
    job = installation.job(job_id)
    assert (job.status, job.lease_token) == ("running", "another's")


def test_a_store_that_is_away_holds_a_job_up_and_fails_nothing(bench: Bench) -> None:
    installation = bench.installation
    folder = Path(installation.settings.data_dir) / "store"
    hold = bench.direct("prune", "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.begun("prune")
    folder.rename(folder.with_name("unmounted"))
    with pytest.raises(StoreUnavailableError):
        installation.store.check()
    hold.unlink()
    eventually(lambda: installation.events(job_id, "warning") != [], 15)
    told = time.monotonic()
    job = installation.job(job_id)  # more than a lease has gone by: it was renewed meanwhile
    assert (job.status, job.attempt) == ("running", 1)
    assert installation.stored_stages(job_id) == set()
    eventually(lambda: time.monotonic() - told > 4, 10)  # and it is told of once, however often it is tried again
    folder.with_name("unmounted").rename(folder)
    bench.join()
    assert installation.job(job_id).status == "succeeded"
    (warning,) = installation.events(job_id, "warning")
    assert warning.data["message"] == "The store is unreachable; the run waits for it."


def test_a_job_is_cancelled_within_five_seconds_while_the_store_is_away(bench: Bench) -> None:
    installation = bench.installation
    folder = Path(installation.settings.data_dir) / "store"
    folder.rename(folder.with_name("unmounted"))
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.begun("prune")
    asked = time.monotonic()
    installation.ask_to_cancel(job_id)
    installation.wait_for(job_id, "cancelled")
    assert time.monotonic() - asked < 5
    folder.with_name("unmounted").rename(folder)


def test_a_database_that_is_locked_holds_a_job_up_and_fails_nothing(bench: Bench) -> None:
    installation = bench.installation
    hold = bench.direct("prune", "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.begun("prune")
    with closing(sqlite3.connect(installation.settings.data_dir / "qpruner.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        hold.unlink()
        bench.begun("score")  # the child goes on
        other.execute("ROLLBACK")
    bench.join()
    assert installation.job(job_id).status == "succeeded"


def test_a_full_scratch_disk_fails_the_job_with_its_reason(bench: Bench, small_disk: Path) -> None:
    filling = bench.direct("score", "fill", str(2**21))
    parts = bench.parts(data_dir=small_disk)
    job_id = bench.installation.submit(CONFIG)
    bench.start(job_id, parts=parts)
    bench.join()
    error = bench.installation.job(job_id).error
    assert error is not None
    assert (error["code"], error["user"]) == ("disk_full", False)
    filling.unlink()
    bench.installation.requeue(job_id)
    bench.start(job_id, parts=parts)
    bench.join()
    assert bench.installation.job(job_id).status == "succeeded"


def test_a_child_that_outlives_its_supervisor_is_gone_before_the_next_one_starts(bench: Bench) -> None:
    installation = bench.installation
    hold = bench.direct("prune", "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id, "old")
    bench.begun("prune")
    with installation.sessions.begin() as session:  # as if the old one had been silent for long
        job = session.get_one(Job, job_id)
        leases.lose_attempt(session, job, code="worker_lost", reason="Silent.")
    (bench.directions / "prune.told").unlink()
    bench.start(job_id, "new")
    bench.begun("prune")
    eventually(lambda: len(children_of(installation.settings)) == 1)
    hold.unlink()
    bench.join()
    assert installation.job(job_id).status == "succeeded"


def test_one_wake_up_is_enough_for_all_jobs_and_tenants_take_turns(bench: Bench) -> None:
    installation = bench.installation
    loud = [installation.submit(CONFIG | {"seed": seed}, tenant="loud") for seed in range(3)]
    quiet = installation.submit(CONFIG, tenant="quiet")
    bench.start(loud[0])
    bench.join()
    jobs = [installation.job(job_id) for job_id in (*loud, quiet)]
    assert {job.status for job in jobs} == {"succeeded"}
    began = sorted(jobs, key=lambda job: job.started_at or job.created_at)
    assert [job.tenant for job in began] == ["loud", "quiet", "loud", "loud"]
