"""Speed of the workers' machines: measured by them, read by estimates."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import utc_now
from app.jobs.models import WorkerSpeed
from qpruner_core.speed.record import SpeedRecord


def remember_speed(session: Session, record: dict[str, Any]) -> None:
    """Store a worker's record of its machine's speed, in place of the previous one.

    Several workers of one machine may do so at once.
    """
    key = SpeedRecord.model_validate(record).speed.key
    values = {"record": record, "updated_at": utc_now()}
    same = update(WorkerSpeed).where(WorkerSpeed.key == key).values(**values)
    if session.execute(same).rowcount:  # type: ignore[attr-defined]
        return
    try:
        with session.begin_nested():
            session.add(WorkerSpeed(key=key, **values))
    except IntegrityError:  # another worker was first
        session.execute(same)


def latest_speed(session: Session) -> SpeedRecord | None:
    """The record of the machine that ran a job last; ``None`` before the first, or if a later release wrote it."""
    newest = select(WorkerSpeed.record).order_by(WorkerSpeed.updated_at.desc(), WorkerSpeed.key).limit(1)
    record = session.scalars(newest).one_or_none()
    if record is None:
        return None
    try:
        return SpeedRecord.model_validate(record)
    except ValidationError:
        return None
