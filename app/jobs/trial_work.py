"""Trials of a running search that any worker may measure: each has a lease of its own.

Rows are of one attempt at the job, told by the token of its lease. A new attempt makes the others void. No function
here commits.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, delete, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.database import Base, UtcDateTime, utc_now
from app.jobs.lease import Lease


class TrialWork(Base):
    """A trial to be measured by a worker whose machine is like ``machine``, or what it gave.

    ``job_token`` is that of the attempt. A worker has it while ``lease_token`` is its own and ``lease_expires_at`` lies
    ahead, or is null: the worker of the job itself, whose lease on the job says whether it is there.
    """

    __tablename__ = "trial_work"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    job_token: Mapped[str] = mapped_column(String(64))
    machine: Mapped[str] = mapped_column(String(64))
    trial: Mapped[dict[str, Any]] = mapped_column(JSON)
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_token: Mapped[str | None] = mapped_column(String(64))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    loss: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


def offer(session: Session, lease: Lease, machine: str, trials: Mapping[int, dict[str, Any]]) -> None:
    """Have ``trials`` measured by whoever takes them first; those of earlier attempts go."""
    of_job = delete(TrialWork).where(TrialWork.job_id == lease.job_id)
    session.execute(of_job.where(or_(TrialWork.job_token != lease.token, TrialWork.index.in_(list(trials)))))
    for index, trial in trials.items():
        session.add(
            TrialWork(job_id=lease.job_id, index=index, job_token=lease.token, machine=machine, trial=trial)
        )  # fmt: skip


def take_own(session: Session, lease: Lease) -> TrialWork | None:
    """The first free trial, for the worker of the job itself."""
    row = session.scalars(_free(lease).order_by(TrialWork.index)).first()
    if row is not None:
        row.lease_owner, row.lease_token, row.lease_expires_at = lease.owner, lease.token, None
    return row


def take(session: Session, lease: Lease, machine: str, owner: str) -> TrialWork | None:
    """The last free trial, for a worker that helps: the search waits for the first ones first."""
    row = session.scalars(_free(lease).where(TrialWork.machine == machine).order_by(TrialWork.index.desc())).first()
    if row is not None:
        row.lease_owner, row.lease_token = owner, secrets.token_hex(16)
        row.lease_expires_at = utc_now() + timedelta(seconds=lease.seconds)
    return row


def any_open(session: Session, lease: Lease) -> bool:
    """Whether there is a trial that nobody has measured."""
    of_attempt = (TrialWork.job_id == lease.job_id, TrialWork.job_token == lease.token, TrialWork.loss.is_(None))
    return session.scalar(select(TrialWork.index).where(*of_attempt).limit(1)) is not None


def machine_of(session: Session, lease: Lease) -> str | None:
    """Requirements on machines that help."""
    of_attempt = (TrialWork.job_id == lease.job_id, TrialWork.job_token == lease.token)
    return session.scalar(select(TrialWork.machine).where(*of_attempt).limit(1))


def renew(session: Session, lease: Lease, index: int, token: str) -> bool:
    """Keep a trial for longer; false if it is no longer this worker's."""
    later = utc_now() + timedelta(seconds=lease.seconds)
    return _change(session, lease, index, token, {"lease_expires_at": later})


def finish(session: Session, lease: Lease, index: int, token: str, loss: dict[str, Any]) -> bool:
    """Write what a trial gave; false if it was no longer this worker's."""
    return _change(session, lease, index, token, {"loss": loss})


def release(session: Session, lease: Lease, index: int, token: str) -> None:
    """Give a trial back that was not measured."""
    _change(session, lease, index, token, {"lease_owner": None, "lease_token": None, "lease_expires_at": None})


def measured_by_others(session: Session, lease: Lease, indices: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Results of helpers for the trials ``indices``."""
    query = select(TrialWork.index, TrialWork.loss).where(
        TrialWork.job_id == lease.job_id, TrialWork.job_token == lease.token, TrialWork.index.in_(indices),
        TrialWork.loss.is_not(None), TrialWork.lease_token != lease.token,
    )  # fmt: skip
    return {index: loss for index, loss in session.execute(query) if loss is not None}


def _free(lease: Lease) -> Any:
    untaken = or_(TrialWork.lease_token.is_(None), TrialWork.lease_expires_at < utc_now())
    query = select(TrialWork).where(TrialWork.job_id == lease.job_id, TrialWork.job_token == lease.token, untaken)
    return query.where(TrialWork.loss.is_(None)).limit(1).with_for_update(skip_locked=True)


def _change(session: Session, lease: Lease, index: int, token: str, values: dict[str, Any]) -> bool:
    mine = (TrialWork.job_id == lease.job_id, TrialWork.index == index, TrialWork.lease_token == token)
    done = session.execute(update(TrialWork).where(*mine, TrialWork.loss.is_(None)).values(**values))
    return bool(done.rowcount)  # type: ignore[attr-defined]
