"""An attempt that is over leaves in the store what rows name, and touches nothing of another attempt's."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from app.jobs import lease as leases
from app.jobs import service
from app.jobs.models import Job
from app.storage.obsolete import deleting
from app.store import StoreUnavailableError
from app.store.local import LocalStore
from qpruner_core.events import STAGES
from tests.worker.bench import CONFIG, Bench
from worker.supervisor import Supervisor

pytestmark = pytest.mark.service


class SlowStore(LocalStore):
    """The local store, in which putting a file of one name takes until the test lets it go on."""

    def __init__(self, store: LocalStore, slow: str) -> None:
        super().__init__(store.root, store.signer, store.identity)
        self.slow = slow
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.put: list[str] = []
        self.refuses_to_delete = False

    def put_file(self, key: str, path: Path) -> None:
        if key.endswith(self.slow):
            self.reached.set()
            assert self.go_on.wait(30)
        super().put_file(key, path)
        self.put.append(key.split("/", 3)[-1])

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        if self.refuses_to_delete:
            raise StoreUnavailableError("Access denied")
        super().delete_prefix(prefix, keep=keep)

    @classmethod
    def of(cls, bench: Bench, slow: str) -> SlowStore:
        assert isinstance(bench.installation.store, LocalStore)
        return cls(bench.installation.store, slow)


def start_slowly(bench: Bench, slow: str, **settings: float) -> tuple[str, SlowStore, Supervisor]:
    """A job whose worker is in the middle of putting ``slow`` into the store."""
    store = SlowStore.of(bench, slow)
    job_id = bench.installation.submit(CONFIG)
    supervisor = bench.start(job_id, "slow", bench.parts(store=store, **settings))
    assert store.reached.wait(30)
    return job_id, store, supervisor


def test_a_cancelled_upload_ends_with_its_file_and_a_retry_goes_on_from_the_stages(bench: Bench) -> None:
    installation = bench.installation
    job_id, store, _ = start_slowly(bench, "artifacts/mixed.tar")
    installation.ask_to_cancel(job_id)
    installation.wait_for(job_id, "cancelled")
    store.go_on.set()
    bench.join()
    assert store.put[-1] == "artifacts/mixed.tar"
    stored = installation.stored_files(job_id)
    assert stored == installation.recorded_files(job_id)
    assert len(stored) == 2 * len(STAGES)
    installation.requeue(job_id)
    bench.start(job_id, parts=bench.parts(host="another"))
    bench.join()
    assert installation.job(job_id).status == "succeeded", installation.describe(job_id)
    assert installation.stages_started(job_id) == list(STAGES)


def test_a_cancelled_stage_upload_ends_with_its_file_and_leaves_nothing_of_the_stage(bench: Bench) -> None:
    installation = bench.installation
    job_id, store, _ = start_slowly(bench, "stages/score/data.bin")
    installation.ask_to_cancel(job_id)
    installation.wait_for(job_id, "cancelled")
    store.go_on.set()
    bench.join()
    assert store.put[-1] == "stages/score/data.bin"
    assert installation.stored_stages(job_id) == {"prune"}
    assert installation.stored_files(job_id) == installation.recorded_files(job_id)


def test_a_stopped_worker_puts_nothing_more_and_leaves_what_counts(bench: Bench) -> None:
    installation = bench.installation
    job_id, store, supervisor = start_slowly(bench, "artifacts/mixed.tar")
    supervisor.stop()
    installation.wait_for(job_id, "queued")
    store.go_on.set()
    bench.join()
    assert store.put[-1] == "artifacts/mixed.tar"
    assert installation.stored_files(job_id) == installation.recorded_files(job_id)


@pytest.mark.parametrize("slow", ["stages/export/data.bin", "artifacts/mixed.tar"])
def test_a_worker_that_has_lost_its_job_spoils_nothing_of_the_next_one(bench: Bench, slow: str) -> None:
    installation = bench.installation
    job_id, store, _ = start_slowly(bench, slow)
    with installation.sessions.begin() as session:
        job = session.get_one(Job, job_id)
        leases.lose_attempt(session, job, code="worker_lost", reason="Silent.")
    bench.start(job_id, "next", bench.parts(host="another"))
    installation.wait_for(job_id, "succeeded", seconds=30)
    found = installation.artifacts(job_id)
    store.go_on.set()
    bench.join()
    assert installation.artifacts(job_id) == found
    assert found.keys() == {"mixed.tar", "merged.tar", "report.json"}
    assert installation.stored_files(job_id) == installation.recorded_files(job_id)


def test_a_worker_that_has_lost_its_job_deletes_nothing_that_the_next_one_is_still_putting(bench: Bench) -> None:
    installation = bench.installation
    job_id, store, old = start_slowly(bench, "artifacts/mixed.tar")
    installation.ask_to_cancel(job_id)
    installation.wait_for(job_id, "cancelled")
    installation.requeue(job_id)
    next_store = SlowStore.of(bench, "artifacts/report.json")
    bench.start(job_id, "next", bench.parts(store=next_store, host="another"))
    assert next_store.reached.wait(30)  # both checkpoints lie there, and no row says so yet
    store.go_on.set()
    bench.join(old)
    next_store.go_on.set()
    bench.join()
    assert installation.job(job_id).status == "succeeded", installation.describe(job_id)
    assert installation.artifacts(job_id).keys() == {"mixed.tar", "merged.tar", "report.json"}
    assert installation.stored_files(job_id) == installation.recorded_files(job_id)


def test_a_put_that_ends_after_its_job_was_deleted_leaves_nothing(bench: Bench) -> None:
    installation = bench.installation
    job_id, store, _ = start_slowly(bench, "artifacts/mixed.tar")
    installation.ask_to_cancel(job_id)
    installation.wait_for(job_id, "cancelled")
    with deleting(installation.sessions, installation.store) as session:
        service.delete_job(session, "default", job_id)
    assert installation.stored_files(job_id) == set()
    store.go_on.set()
    bench.join()
    assert store.put[-1] == "artifacts/mixed.tar"
    assert installation.stored_files(job_id) == set()


def test_a_cancel_that_comes_with_the_last_file_drops_the_artifacts_and_keeps_the_stages(bench: Bench) -> None:
    installation = bench.installation
    job_id, store, _ = start_slowly(bench, "artifacts/report.json", poll_seconds=20.0)  # only the last write sees it
    installation.ask_to_cancel(job_id)
    store.go_on.set()
    bench.join()
    assert installation.job(job_id).status == "cancelled"
    stored = installation.stored_files(job_id)
    assert stored == installation.recorded_files(job_id)
    assert len(stored) == 2 * len(STAGES)
    installation.requeue(job_id)
    bench.start(job_id, parts=bench.parts(host="another"))
    bench.join()
    assert installation.job(job_id).status == "succeeded", installation.describe(job_id)
    assert installation.stages_started(job_id) == list(STAGES)


def test_what_killed_workers_left_of_a_succeeded_job_goes_with_the_next_sweep(bench: Bench, tmp_path: Path) -> None:
    installation = bench.installation
    (tmp_path / "part").touch()
    job_id, store, _ = start_slowly(bench, "artifacts/report.json")
    store.refuses_to_delete = True  # as if it died with its last write
    store.go_on.set()
    bench.join()
    assert installation.job(job_id).status == "succeeded"
    store.put_file(f"jobs/{job_id}/another-token/artifacts/mixed.tar", tmp_path / "part")
    assert len(installation.stored_files(job_id)) == 2 * len(STAGES) + 4
    for _ in range(2):
        Supervisor(bench.parts()).sweep()
        stored = installation.stored_files(job_id)
        assert stored == installation.recorded_files(job_id)
        assert len(stored) == 2 * 3 + 3
