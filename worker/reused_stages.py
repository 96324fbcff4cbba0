"""Stages and trials of the tenant's other jobs, reused instead of computed again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import utc_now
from app.jobs.lease import Lease, hold
from app.jobs.models import Job, JobMetric, JobTrial, StageResult
from qpruner_core.config import parse_config
from qpruner_core.errors import InvalidConfigError
from qpruner_core.search.known_trials import KNOWN_TRIALS, KnownTrials, trial_key
from worker.protocol import StageWanted
from worker.stage_files import Transfer, fetch_stage, upload_stage
from worker.store_keys import stage_prefix

_LOG = logging.getLogger(__name__)
_MOST_DONORS = 20
_Result = TypeVar("_Result")


class Write(Protocol):
    """Runs a function in its own transaction, with retries."""

    def __call__(self, action: Callable[[Session], _Result]) -> _Result: ...


class ReusedStages:
    """Copies stages of other jobs of the tenant from the store to the ``stages`` folder of one attempt.

    The files are copied to the attempt's own place in the store before the stage counts: from then on the job depends
    on no other.
    """

    def __init__(self, lease: Lease, stages: Path, write: Write, get: Transfer, put: Transfer) -> None:
        self._lease = lease
        self._stages = stages
        self._write = write
        self._get = get
        self._put = put

    def bring(self, wanted: StageWanted) -> bool:
        """Whether the files of the stage are in the folder now, and in the store as this job's own."""
        for donor in self._write(lambda session: donors(session, self._lease, wanted)):
            brought = self._stages / f"{wanted.stage}.reused"
            if fetch_stage(donor, brought, self._get):
                self._adopt(donor, brought)
                return True
        if wanted.stage == "allocate":
            self._bring_trials()
        return False

    def _adopt(self, donor: StageResult, brought: Path) -> None:
        upload_stage(brought, [file["path"] for file in donor.files], stage_prefix(self._lease, donor.stage), self._put)
        self._write(lambda session: record_reuse(session, self._lease, donor))
        shutil.rmtree(self._stages / donor.stage, ignore_errors=True)
        brought.rename(self._stages / donor.stage)
        _LOG.info("%s: stage %s is reused from %s", self._lease.job_id, donor.stage, donor.job_id)

    def _bring_trials(self) -> None:
        found = self._write(lambda session: known_trials(session, self._lease))
        if found is None:
            return
        key, trials = found
        known = KnownTrials(self._stages / KNOWN_TRIALS, key)
        for trial in trials:
            known.remember(trial.precisions, trial.loss, trial.screening_loss)
        if trials:
            _LOG.info("%s: %d allocations were measured before", self._lease.job_id, len(known))


def donors(session: Session, lease: Lease, wanted: StageWanted) -> Sequence[StageResult]:
    """Finished stages of the tenant's other jobs that have the key and their files, newest first."""
    query = (
        select(StageResult)
        .join(Job, Job.id == StageResult.job_id)
        .where(
            Job.tenant == lease.tenant, Job.id != lease.job_id, StageResult.key == wanted.key,
            StageResult.stage == wanted.stage, StageResult.store_prefix != "",
        )
        .order_by(StageResult.job_id.desc())
        .limit(_MOST_DONORS)
    )  # fmt: skip
    return session.scalars(query).all()


def record_reuse(session: Session, lease: Lease, donor: StageResult) -> None:
    """Record a finished stage of another job for this one, with its events. Raises :class:`LeaseLost`."""
    job = hold(session, lease)
    session.merge(
        StageResult(
            job_id=job.id, stage=donor.stage, attempt=job.attempt, seconds=donor.seconds, key=donor.key,
            reused_from=donor.reused_from or donor.job_id, store_prefix=stage_prefix(lease, donor.stage),
            files=donor.files, summary=donor.summary, finished_at=utc_now(),
        )
    )  # fmt: skip
    _copy_told(session, job.id, donor)


def _copy_told(session: Session, job_id: str, donor: StageResult) -> None:
    """Record the events of a stage: trials of the search, curves of recovery."""
    if donor.stage == "allocate":
        for trial in session.scalars(select(JobTrial).where(JobTrial.job_id == donor.job_id)):
            session.merge(
                JobTrial(
                    job_id=job_id, index=trial.index, origin=trial.origin, precisions=trial.precisions,
                    bytes=trial.bytes, loss=trial.loss, screening_loss=trial.screening_loss,
                    stopped_early=trial.stopped_early,
                )
            )  # fmt: skip
    curves = (JobMetric.job_id == donor.job_id, JobMetric.name.startswith(f"{donor.stage}."))
    for point in session.scalars(select(JobMetric).where(*curves)):
        session.merge(JobMetric(job_id=job_id, name=point.name, step=point.step, value=point.value))


def known_trials(session: Session, lease: Lease) -> tuple[str, list[JobTrial]] | None:
    """Losses of allocations that jobs of the tenant have measured on the job's own scores in the same way, with their
    key; including earlier attempts of this job. ``None`` before the score stage."""
    scored = session.get(StageResult, (lease.job_id, "score"))
    if scored is None or scored.key is None:
        return None
    key = trial_key(scored.key, parse_config(dict(lease.config)))
    same_scores = (
        select(Job)
        .join(StageResult, StageResult.job_id == Job.id)
        .where(Job.tenant == lease.tenant, StageResult.stage == "score", StageResult.key == scored.key)
        .order_by(Job.id.desc())
        .limit(_MOST_DONORS)
    )
    alike = [job.id for job in session.scalars(same_scores) if _measures_under(key, scored.key, job)]
    whole = (JobTrial.job_id.in_(alike), ~JobTrial.stopped_early)
    return key, list(session.scalars(select(JobTrial).where(*whole).order_by(JobTrial.job_id, JobTrial.index)))


def _measures_under(key: str, score_key: str, job: Job) -> bool:
    try:
        return trial_key(score_key, parse_config(dict(job.config))) == key
    except InvalidConfigError:  # of a release with other settings
        return False
