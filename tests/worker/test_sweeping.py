"""Sweeps of several workers at once, and what no sweep may keep a worker from."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.ids import new_id
from app.store import StoreUnavailableError
from app.store.local import LocalStore
from tests.worker.bench import CONFIG, Bench
from worker.scratch import scratch_root
from worker.supervisor import Supervisor

pytestmark = pytest.mark.service


class FaultyStore(LocalStore):
    """The local store, which meets a fault of its own when it deletes."""

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        raise RuntimeError("a fault")


class RefusingStore(LocalStore):
    """The local store, which refuses to delete from whole jobs whose prefix begins with ``refused``."""

    refused = "none"

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        if prefix.count("/") == 2 and prefix.startswith(self.refused):
            raise StoreUnavailableError("Access denied: a lock on this object")
        super().delete_prefix(prefix, keep=keep)


def test_workers_that_delete_the_same_folders_at_once_all_end_well(bench: Bench) -> None:
    store = bench.installation.store
    assert isinstance(store, LocalStore)
    workers = 4
    begin = threading.Barrier(workers)

    def delete() -> None:
        begin.wait(10)
        store.delete_prefix("jobs/job_1/", keep=["jobs/job_1/kept/file"])

    for _ in range(20):
        for number in range(40):
            folder = store.root / "jobs" / "job_1" / f"{number}" / "deep"
            folder.mkdir(parents=True)
            (folder / "file").touch()
        (store.root / "jobs" / "job_1" / "kept").mkdir()
        (store.root / "jobs" / "job_1" / "kept" / "file").touch()
        with ThreadPoolExecutor(workers) as threads:
            for done in [threads.submit(delete) for _ in range(workers)]:
                done.result()
        left = [path for path in (store.root / "jobs").rglob("*") if path.is_file()]
        assert left == [store.root / "jobs" / "job_1" / "kept" / "file"]
        shutil.rmtree(store.root / "jobs")


def test_a_fault_while_sweeping_keeps_no_worker_from_starting_or_from_its_next_job(bench: Bench) -> None:
    installation = bench.installation
    assert isinstance(installation.store, LocalStore)
    faulty = FaultyStore(installation.store.root, installation.store.signer, installation.store.identity)
    parts = bench.parts(store=faulty)
    supervisor = Supervisor(parts)
    for _ in range(2):
        job_id = installation.submit(CONFIG, tenant=new_id("t"))
        supervisor.run(job_id)
        assert installation.job(job_id).status == "succeeded", installation.describe(job_id)
        supervisor.sweep()


def test_a_job_whose_files_cannot_be_deleted_keeps_no_others_in_the_store(bench: Bench) -> None:
    installation = bench.installation
    assert isinstance(installation.store, LocalStore)
    refusing = RefusingStore(installation.store.root, installation.store.signer, installation.store.identity)
    refusing.refused = "jobs/"
    supervisor = Supervisor(bench.parts(store=refusing))
    jobs = []
    for _ in range(3):
        jobs.append(installation.submit(CONFIG, tenant=new_id("t")))
        supervisor.run(jobs[-1])
        assert installation.job(jobs[-1]).status == "succeeded", installation.describe(jobs[-1])
    everything = [installation.stored_files(job_id) for job_id in jobs]
    refusing.refused = f"jobs/{jobs[0]}/"
    for _ in range(2):
        supervisor.sweep()
        assert installation.stored_files(jobs[0]) == everything[0]
        for job_id, before in zip(jobs[1:], everything[1:], strict=True):
            assert installation.stored_files(job_id) < before
            assert installation.stored_files(job_id) == installation.recorded_files(job_id)
    refusing.refused = "none"
    supervisor.sweep()
    assert installation.stored_files(jobs[0]) < everything[0]


def test_a_scratch_folder_that_cannot_be_used_is_swept_past_and_costs_its_job_an_attempt(bench: Bench) -> None:
    installation = bench.installation
    scratch_root(installation.settings).parent.mkdir(parents=True, exist_ok=True)
    scratch_root(installation.settings).write_text("a file in its place")
    supervisor = Supervisor(bench.parts())
    supervisor.sweep()
    job_id = installation.submit(CONFIG, max_attempts=1)
    supervisor.run(job_id)
    error = installation.job(job_id).error
    assert error is not None
    assert error["code"] == "worker_fault"
