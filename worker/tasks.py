"""The two tasks: wake up and run a job, or help with the trials of one that another worker runs."""

from __future__ import annotations

import logging

from celery import Celery, Task

from app.broker import MEASURE_TRIALS, RUN_JOB
from app.ids import is_id
from worker.supervisor import Supervisor

_LOG = logging.getLogger(__name__)


def register_run_job(celery: Celery, supervisor: Supervisor) -> None:
    """Register the task with ``celery``: wake-ups are passed to ``supervisor``."""

    @celery.task(name=RUN_JOB, ignore_result=True, bind=True)
    def run_job(task: Task, job_id: str) -> None:
        if is_id(job_id, "job"):
            supervisor.run(job_id, (task.request.headers or {}).get("traceparent"))
        else:
            _LOG.warning("A wake-up named no job: %.80r", job_id)


def register_measure_trials(celery: Celery, supervisor: Supervisor) -> None:
    """Have ``celery`` help other workers with ``supervisor``."""

    @celery.task(name=MEASURE_TRIALS, ignore_result=True)
    def measure_trials(job_id: str) -> None:
        if is_id(job_id, "job"):
            supervisor.help(job_id)
        else:
            _LOG.warning("A call for help named no job: %.80r", job_id)
