"""A job's process is ended when it has had its time or more memory than it may have, or gets nowhere."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from app.broker import Broker
from app.database import utc_now
from app.jobs.dispatcher import Dispatcher
from app.jobs.models import Job
from app.settings import Settings
from tests.server_processes import wait_until
from tests.worker.bench import CONFIG, Bench
from tests.worker.installation import Installation, children_of, eventually
from worker.watch import Breach, Watch, machine_memory

pytestmark = pytest.mark.service
MIB = 2**20


@contextmanager
def running(code: str) -> Iterator[int]:
    """The process id of a Python that runs ``code`` and has said a line."""
    command = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def looked(watch: Watch, pid: int, quiet_since: float | None, seconds: float) -> Breach | None:
    """The first breach within ``seconds``."""
    found: list[Breach | None] = []

    def look() -> bool:
        found.append(watch.look(pid, quiet_since))
        return found[-1] is not None

    wait_until(look, seconds)
    return found[-1]


def test_memory_of_a_process_and_its_children_counts_together_and_pages_of_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(100 * MIB))
    eat = f"x = bytearray({60 * MIB}); x[::4096] = b'1' * len(x[::4096]); print('eaten', flush=True)"
    child = f"import time; {eat}; time.sleep(60)"
    parent = (
        f"import mmap, subprocess, sys, time; f = open({str(tmp_path / 'large')!r}, 'rb')\n"
        "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); sum(m[::4096])\n"
        f"p = subprocess.Popen([sys.executable, '-S', '-c', {child!r}], stdout=subprocess.PIPE); p.stdout.readline()\n"
        f"{eat}; time.sleep(60)"
    )
    with running(parent) as pid:
        assert Watch(200 * MIB, 0).look(pid, None) is None
        breach = Watch(110 * MIB, 0).look(pid, None)
    assert breach is not None
    assert (breach.code, breach.again) == ("memory_exceeded", False)
    assert "QPRUNER_JOB_MEMORY" in breach.remedy


def test_a_process_that_says_and_writes_nothing_has_stalled_and_one_that_writes_has_not(tmp_path: Path) -> None:
    with running("import time; print('here', flush=True); time.sleep(60)") as pid:
        since = time.monotonic()
        breach = looked(Watch(machine_memory(), 1.5), pid, since, 10)
        assert breach is not None
        assert (breach.code, breach.again) == ("stalled", True)
        assert looked(Watch(machine_memory(), 0), pid, since, 2.5) is None
        assert looked(Watch(machine_memory(), 1.5), pid, None, 2.5) is None  # it is not the child that is waited for
    write = (
        f"import time; print('here', flush=True); f = open({str(tmp_path / 'data')!r}, 'wb')\n"
        "while True: f.write(bytes(2**20)); f.flush(); f.seek(0); time.sleep(0.1)"
    )
    with running(write) as pid:
        assert looked(Watch(machine_memory(), 1.5), pid, time.monotonic(), 4) is None


def test_a_process_that_is_gone_is_no_breach() -> None:
    with running("print()") as pid:
        assert wait_until(lambda: Watch(1, 1).look(pid, time.monotonic()) is None)


def test_the_memory_limit_is_the_operators_or_that_of_the_machine() -> None:
    assert Watch.of(Settings(_env_file=None, job_memory=5 * MIB))._memory == 5 * MIB
    assert 0.9 * machine_memory() < Watch.of(Settings(_env_file=None))._memory < machine_memory()


def give_deadline(installation: Installation, job_id: str, seconds: int) -> None:
    with installation.sessions.begin() as session:
        session.get_one(Job, job_id).deadline = seconds


def test_a_job_whose_deadline_is_over_fails_with_its_own_code_and_a_retry_has_the_time_again(bench: Bench) -> None:
    installation = bench.installation
    hold = bench.direct("score", "hold")
    job_id = installation.submit(CONFIG)
    give_deadline(installation, job_id, 6)
    bench.start(job_id)
    installation.wait_for(job_id, "failed", seconds=40)
    bench.join()
    assert children_of(installation.settings) == []
    job = installation.job(job_id)
    assert job.error is not None
    assert (job.error["code"], job.error["user"]) == ("deadline_exceeded", False)
    assert "6 s" in job.error["message"]
    hold.unlink()
    installation.requeue(job_id)
    with installation.sessions.begin() as session:
        session.get_one(Job, job_id).deadline_at = None  # as a retry does
    give_deadline(installation, job_id, 600)
    bench.start(job_id)
    bench.join()
    assert installation.job(job_id).status == "succeeded", installation.describe(job_id)


def test_a_job_that_waits_for_another_attempt_beyond_its_deadline_fails_too(bench: Bench) -> None:
    installation = bench.installation
    taken, waiting, fresh = (installation.submit(CONFIG) for _ in range(3))
    with installation.sessions.begin() as session:
        for job_id in (taken, waiting):
            job = session.get_one(Job, job_id)
            job.deadline, job.deadline_at = 60, utc_now() - timedelta(seconds=1)
        session.get_one(Job, fresh).deadline = 60
    broker = Broker(installation.valkey.url)
    Dispatcher(installation.sessions, broker, installation.settings).end_overdue()
    broker.close()
    for job_id in (taken, waiting):
        error = installation.job(job_id).error
        assert error is not None
        assert error["code"] == "deadline_exceeded"
    assert installation.job(fresh).deadline_at is None  # its time begins with its first start
    bench.start(fresh)
    bench.join()
    assert installation.job(fresh).deadline_at is not None
    assert installation.job(fresh).status == "succeeded"


def test_a_job_with_more_memory_than_it_may_have_fails_at_once_with_its_own_code(bench: Bench) -> None:
    installation = bench.installation
    bench.direct("allocate", "eat", str(400 * MIB))
    job_id = installation.submit(CONFIG)
    bench.start(job_id, parts=bench.parts(job_memory=350 * MIB))
    installation.wait_for(job_id, "failed", seconds=40)
    bench.join()
    job = installation.job(job_id)
    assert job.error is not None
    assert (job.error["code"], job.error["user"], job.attempt) == ("memory_exceeded", False, 1)
    assert "350" in job.error["message"] or "367.0 MB" in job.error["message"]
    assert children_of(installation.settings) == []
    assert installation.stored_stages(job_id) == {"prune", "score"}


def test_a_job_that_gets_nowhere_is_tried_again_and_then_fails_with_the_reason(bench: Bench) -> None:
    installation = bench.installation
    bench.direct("prune", "hold")
    job_id = installation.submit(CONFIG, max_attempts=2)
    for _ in range(2):  # a lost attempt owes a wake-up, for which another worker may come
        bench.start(job_id, parts=bench.parts(stall_seconds=5.0))
        bench.join()
    job = installation.job(job_id)
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("stalled", 2)
    assert "QPRUNER_STALL_SECONDS" in job.error["remedy"]
    assert [event.data["code"] for event in installation.events(job_id, "attempt_lost")] == ["stalled", "stalled"]
    eventually(lambda: children_of(installation.settings) == [])
