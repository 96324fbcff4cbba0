"""What the database knows of the workers' machines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.models import WorkerSpeed
from app.jobs.speeds import latest_speed, remember_speed
from qpruner_core.speed.record import Observation, SpeedRecord
from tests.made_up_speed import made_up_speed


def test_the_machine_that_worked_last_is_the_one_that_estimates_are_of(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        assert latest_speed(session) is None
    one, other = (SpeedRecord(speed=made_up_speed(key)) for key in ("one", "other"))
    learned = one.observed({"score": Observation(expected=1.0, measured=2.0)})
    for record in (one, other, learned):
        with sessions.begin() as session:
            remember_speed(session, record.model_dump(mode="json"))
        with sessions() as session:
            assert latest_speed(session) == record
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(WorkerSpeed)) == 2


def test_workers_of_one_machine_may_tell_at_once(sessions: sessionmaker[Session]) -> None:
    record = SpeedRecord(speed=made_up_speed())

    def tell(_: int) -> None:
        with sessions.begin() as session:
            remember_speed(session, record.model_dump(mode="json"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(tell, range(16)))
    with sessions() as session:
        assert latest_speed(session) == record


def test_a_record_of_another_release_is_as_good_as_none(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        remember_speed(session, SpeedRecord(speed=made_up_speed()).model_dump(mode="json"))
        session.execute(update(WorkerSpeed).values(record={"speed": "of light"}))
    with sessions() as session:
        assert latest_speed(session) is None
