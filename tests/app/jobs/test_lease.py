"""A job is one worker's at a time, and nobody else's words count."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.database import create_database_engine, create_session_factory, utc_now
from app.ids import new_id
from app.jobs import lease as leases
from app.jobs.lease import Lease, LeaseLost, LeaseState
from app.jobs.models import Dispatch, Job, JobEvent

Sessions = sessionmaker[Session]


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    engine: Engine = create_database_engine(database_url)
    yield create_session_factory(engine)
    engine.dispose()


def queue_job(sessions: Sessions, **values: Any) -> str:
    job_id = new_id("job")
    given = {"status": "queued", "max_attempts": 2, "created_at": utc_now()} | values
    with sessions.begin() as session:
        session.add(
            Job(id=job_id, tenant="t", model="m", dataset="d", memory_budget=1, config={}, request_sha256="", **given)
        )
        session.flush()
        session.add(Dispatch(job_id=job_id, due_at=utc_now()))
    return job_id


def claim(sessions: Sessions, job_id: str, owner: str = "me", seconds: float = 30) -> Lease | None:
    with sessions.begin() as session:
        return leases.claim(session, job_id, owner, seconds)


def must_claim(sessions: Sessions, job_id: str, seconds: float = 30) -> Lease:
    lease = claim(sessions, job_id, seconds=seconds)
    assert lease is not None
    return lease


def read(sessions: Sessions, job_id: str) -> Job:
    with sessions() as session:
        return session.get_one(Job, job_id)


def history(sessions: Sessions, job_id: str) -> list[str]:
    with sessions() as session:
        return list(session.scalars(select(JobEvent.type).where(JobEvent.job_id == job_id).order_by(JobEvent.id)))


def owed(sessions: Sessions) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Dispatch)) or 0


def test_a_queued_job_is_taken_once_and_its_wake_up_is_settled(sessions: Sessions) -> None:
    job_id = queue_job(sessions)
    lease = must_claim(sessions, job_id)
    assert claim(sessions, job_id, "other") is None
    job = read(sessions, job_id)
    assert (job.status, job.attempt, job.lease_owner, job.lease_token) == ("running", 1, "me", lease.token)
    assert owed(sessions) == 0
    assert history(sessions, job_id) == ["started"]


def test_of_many_workers_that_reach_for_a_job_at_once_one_gets_it(sessions: Sessions) -> None:
    job_id = queue_job(sessions)
    start, got = threading.Barrier(8), []

    def reach(owner: str) -> None:
        start.wait()
        got.append(claim(sessions, job_id, owner))

    threads = [threading.Thread(target=reach, args=(f"worker-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert sum(lease is not None for lease in got) == 1
    assert read(sessions, job_id).attempt == 1


def test_a_job_whose_holder_fell_silent_is_taken_over_with_a_new_token(sessions: Sessions) -> None:
    job_id = queue_job(sessions)
    old = must_claim(sessions, job_id, seconds=-1)
    new = must_claim(sessions, job_id)
    assert new.token != old.token
    assert new.attempt == 2
    assert history(sessions, job_id) == ["started", "attempt_lost", "started"]


def test_a_renewed_lease_lasts_from_now_even_if_it_had_run_out_unnoticed(sessions: Sessions) -> None:
    job_id = queue_job(sessions)
    lease = must_claim(sessions, job_id)
    with sessions.begin() as session:
        session.execute(update(Job).values(lease_expires_at=utc_now() - timedelta(hours=1)))
    with sessions.begin() as session:
        assert leases.renew(session, lease) == LeaseState(held=True, cancel_requested=False)
    expires = read(sessions, job_id).lease_expires_at
    assert expires is not None
    assert expires > utc_now() + timedelta(seconds=25)


def test_a_holder_learns_that_it_shall_cancel(sessions: Sessions) -> None:
    job_id = queue_job(sessions)
    lease = must_claim(sessions, job_id)
    with sessions.begin() as session:
        session.execute(update(Job).values(cancel_requested_at=utc_now()))
    with sessions.begin() as session:
        assert leases.look(session, lease) == leases.renew(session, lease) == LeaseState(True, True)


Write = Callable[[Session, Lease], Any]
WRITES: dict[str, Write] = {
    "hold": leases.hold,
    "succeed": lambda session, lease: leases.succeed(session, lease, {}),
    "fail": lambda session, lease: leases.fail(session, lease, {"code": "x"}),
    "cancel": leases.cancel,
    "release": leases.release,
    "give_up": lambda session, lease: leases.give_up(session, lease, code="x", reason="y"),
}


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_by_a_holder_that_has_lost_the_job(sessions: Sessions, name: str) -> None:
    job_id = queue_job(sessions)
    old = must_claim(sessions, job_id, seconds=-1)
    new = must_claim(sessions, job_id)
    before = history(sessions, job_id)
    with pytest.raises(LeaseLost), sessions.begin() as session:
        WRITES[name](session, old)
    job = read(sessions, job_id)
    assert (job.status, job.lease_token, history(sessions, job_id)) == ("running", new.token, before)
    with sessions.begin() as session:
        assert leases.renew(session, old).held is False


@pytest.mark.parametrize(
    ("name", "status", "event"),
    [("succeed", "succeeded", "succeeded"), ("fail", "failed", "failed"), ("cancel", "cancelled", "cancelled")],
)
def test_a_holder_ends_its_job_once(sessions: Sessions, name: str, status: str, event: str) -> None:
    job_id = queue_job(sessions)
    lease = must_claim(sessions, job_id)
    with sessions.begin() as session:
        WRITES[name](session, lease)
    job = read(sessions, job_id)
    assert (job.status, job.lease_token, job.finished_at is not None) == (status, None, True)
    assert history(sessions, job_id)[-1] == event
    with pytest.raises(LeaseLost), sessions.begin() as session:
        WRITES[name](session, lease)


def test_a_job_given_back_is_owed_a_wake_up_and_the_attempt_does_not_count(sessions: Sessions) -> None:
    job_id = queue_job(sessions, max_attempts=1)
    for _ in range(3):
        lease = must_claim(sessions, job_id)
        with sessions.begin() as session:
            leases.release(session, lease)
        assert read(sessions, job_id).attempt == 0
        assert owed(sessions) == 1


def test_a_job_given_up_fails_with_the_reason_after_its_last_attempt(sessions: Sessions) -> None:
    job_id = queue_job(sessions, max_attempts=2)
    for _ in range(2):
        with sessions.begin() as session:
            lease = leases.claim(session, job_id, "me", 30)
            assert lease is not None
            leases.give_up(session, lease, code="worker_crashed", reason="It was killed.")
    job = read(sessions, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "worker_crashed"
    assert "It was killed." in job.error["message"]
    assert owed(sessions) == 0


def test_a_queued_job_without_attempts_left_fails_with_its_last_reason(sessions: Sessions) -> None:
    job_id = queue_job(sessions, max_attempts=2)
    with sessions.begin() as session:
        lease = leases.claim(session, job_id, "me", 30)
        assert lease is not None
        leases.give_up(session, lease, code="worker_crashed", reason="Out of memory.")
        session.execute(update(Job).values(max_attempts=1))
    assert claim(sessions, job_id) is None
    job = read(sessions, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "attempts_exhausted"
    assert "Out of memory." in job.error["message"]


@pytest.mark.parametrize("end", ["release", "give_up"])
def test_a_job_that_was_to_be_cancelled_is_not_queued_again(sessions: Sessions, end: str) -> None:
    job_id = queue_job(sessions)
    lease = must_claim(sessions, job_id)
    with sessions.begin() as session:
        session.execute(update(Job).values(cancel_requested_at=utc_now()))
    with sessions.begin() as session:
        WRITES[end](session, lease)
    assert read(sessions, job_id).status == "cancelled"
    assert owed(sessions) == 0


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_job_that_has_ended_is_not_to_be_had(sessions: Sessions, status: str) -> None:
    job_id = queue_job(sessions, status=status)
    assert claim(sessions, job_id) is None
    assert claim(sessions, new_id("job")) is None
