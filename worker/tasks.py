"""The one task: wake up and run a job."""

from __future__ import annotations

import logging

from celery import Celery

from app.broker import RUN_JOB
from app.ids import is_id
from worker.supervisor import Supervisor

_LOG = logging.getLogger(__name__)


def register_run_job(celery: Celery, supervisor: Supervisor) -> None:
    """Register the task with ``celery``: wake-ups are passed to ``supervisor``."""

    @celery.task(name=RUN_JOB, ignore_result=True)
    def run_job(job_id: str) -> None:
        if is_id(job_id, "job"):
            supervisor.run(job_id)
        else:
            _LOG.warning("A wake-up without a job: %.80r", job_id)
