"""Wake-ups are sent until a worker comes, and silent workers lose their jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.broker import QUEUE, Broker, BrokerUnavailableError
from app.database import create_database_engine, create_session_factory, utc_now
from app.jobs import lease as leases
from app.jobs import repository
from app.jobs.dispatcher import Dispatcher
from app.jobs.models import Dispatch, Job, JobEvent
from app.settings import Settings
from tests.app.jobs.test_lease import Sessions, claim, history, must_claim, owed, queue_job, read
from tests.server_processes import wait_until
from tests.valkey import Valkey

pytestmark = pytest.mark.service


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    engine = create_database_engine(database_url)
    yield create_session_factory(engine)
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path, poll_seconds=0.05, resend_seconds=60, lease_seconds=1)


@pytest.fixture
def dispatcher(sessions: Sessions, broker: Broker, settings: Settings) -> Iterator[Dispatcher]:
    made = Dispatcher(sessions, broker, settings)
    yield made
    made.stop()


def make_due(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(update(Dispatch).values(due_at=utc_now() - timedelta(seconds=1)))


def test_a_wake_up_is_sent_once_and_again_when_nobody_came(
    sessions: Sessions, broker: Broker, dispatcher: Dispatcher
) -> None:
    queue_job(sessions)
    assert (dispatcher.send_due(), dispatcher.send_due(), broker.backlog()) == (1, 0, 1)
    broker._redis.flushall()  # the broker has lost it
    make_due(sessions)
    assert (dispatcher.send_due(), broker.backlog()) == (1, 1)


def test_what_this_process_submits_is_sent_at_once(sessions: Sessions, broker: Broker, settings: Settings) -> None:
    dispatcher = Dispatcher(sessions, broker, settings.model_copy(update={"poll_seconds": 3600.0}))
    dispatcher.start()
    try:
        for sent in (1, 2):
            job_id = queue_job(sessions)
            with sessions.begin() as session:
                repository.owe_wake_up(session, job_id)
            assert wait_until(lambda: _backlog(broker) == 1)
            broker._redis.delete(QUEUE)  # a worker has taken it
            assert owed(sessions) == sent
    finally:
        dispatcher.stop()


def test_wake_ups_do_not_pile_up_while_all_workers_are_busy(
    sessions: Sessions, broker: Broker, dispatcher: Dispatcher
) -> None:
    for _ in range(3):
        queue_job(sessions)
    for _ in range(5):
        dispatcher.send_due()
        make_due(sessions)
    assert broker.backlog() == 3
    queue_job(sessions)
    assert dispatcher.send_due() >= 1
    assert broker.backlog() >= 4


def test_several_dispatchers_send_each_wake_up_once(
    sessions: Sessions, broker: Broker, dispatcher: Dispatcher, settings: Settings
) -> None:
    others = [Dispatcher(sessions, broker, settings) for _ in range(3)]
    for _ in range(20):
        queue_job(sessions)
    for each in (dispatcher, *others):
        each.start()
    assert wait_until(lambda: broker.backlog() == 20)
    for each in (dispatcher, *others):
        each.stop()
    assert broker.backlog() == 20


def test_nothing_is_sent_for_a_job_that_is_taken(sessions: Sessions, broker: Broker, dispatcher: Dispatcher) -> None:
    must_claim(sessions, queue_job(sessions))
    assert (dispatcher.send_due(), broker.backlog()) == (0, 0)


def test_a_wake_up_outlives_a_broker_that_is_away(
    sessions: Sessions, broker: Broker, dispatcher: Dispatcher, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    valkey.stop()
    queue_job(sessions)
    with pytest.raises(BrokerUnavailableError):
        dispatcher.send_due()
    with caplog.at_level(logging.WARNING, "app.jobs.dispatcher"):
        dispatcher.start()
        assert wait_until(lambda: dispatcher._failures >= 3)
        assert [record.message.split(";")[0] for record in caplog.records] == ["The broker is unavailable"]
        valkey.start()
        assert wait_until(lambda: _backlog(broker) == 1)
        assert wait_until(lambda: caplog.records[-1].message == "Database and broker are available again")


def test_a_silent_worker_loses_its_job_and_the_job_is_owed_a_wake_up(
    sessions: Sessions, dispatcher: Dispatcher
) -> None:
    job_id = queue_job(sessions)
    lease = must_claim(sessions, job_id, seconds=-1)
    assert (dispatcher.reap(), dispatcher.reap()) == (1, 0)
    job = read(sessions, job_id)
    assert (job.status, job.attempt, job.lease_token) == ("queued", 1, None)
    assert history(sessions, job_id) == ["started", "attempt_lost"]
    assert dispatcher.send_due() == 1
    with sessions.begin() as session:
        assert leases.renew(session, lease).held is False


def test_a_worker_that_speaks_keeps_its_job(sessions: Sessions, dispatcher: Dispatcher) -> None:
    must_claim(sessions, queue_job(sessions), seconds=30)
    assert dispatcher.reap() == 0


def test_a_job_that_loses_every_worker_fails_with_that_reason(sessions: Sessions, dispatcher: Dispatcher) -> None:
    job_id = queue_job(sessions, max_attempts=2)
    for _ in range(2):
        assert claim(sessions, job_id, seconds=-1) is not None
        assert dispatcher.reap() == 1
    job = read(sessions, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
    assert owed(sessions) == 0


def test_a_job_that_was_to_be_cancelled_is_cancelled_when_its_worker_falls_silent(
    sessions: Sessions, dispatcher: Dispatcher
) -> None:
    job_id = queue_job(sessions)
    must_claim(sessions, job_id, seconds=-1)
    with sessions.begin() as session:
        session.execute(update(Job).values(cancel_requested_at=utc_now()))
    dispatcher.reap()
    assert read(sessions, job_id).status == "cancelled"


def test_several_dispatchers_take_a_job_back_once(sessions: Sessions, broker: Broker, settings: Settings) -> None:
    job_id = queue_job(sessions, max_attempts=5)
    must_claim(sessions, job_id, seconds=-1)
    dispatchers = [Dispatcher(sessions, broker, settings) for _ in range(4)]
    for each in dispatchers:
        each.start()
    assert wait_until(lambda: read(sessions, job_id).status == "queued")
    for each in dispatchers:
        each.stop()
    with sessions() as session:
        assert len(session.scalars(select(JobEvent).where(JobEvent.type == "attempt_lost")).all()) == 1


def _backlog(broker: Broker) -> int:
    try:
        return broker.backlog()
    except BrokerUnavailableError:
        return -1
