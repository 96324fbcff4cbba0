"""The API's operations on jobs. The caller commits; :mod:`app.jobs.lease` is the workers' side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import utc_now
from app.ids import is_id, new_id
from app.jobs import repository
from app.jobs.deadline import deadline_of
from app.jobs.history import append_event
from app.jobs.inspection import Asker, Inspector
from app.jobs.known_uploads import KnownUploads
from app.jobs.models import TERMINAL, Artifact, Job
from app.jobs.run_uploads import dataset_fault, hold_uploads, require_model
from app.jobs.schemas import JobRequest
from app.jobs.speeds import latest_speed
from app.keys.principal import Principal
from app.problems import Problem
from app.settings import Settings
from app.storage.obsolete import record_obsolete
from app.storage.usage import require_storage, usage_of_job
from app.webhooks.outbox import owe_first_deliveries
from app.webhooks.service import add_webhook
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import UserError
from qpruner_core.report import Estimate
from qpruner_core.search.stored_search import BudgetAnswer, StoredSearch
from qpruner_core.search.trial import MeasuredTrial
from qpruner_core.source_policy import is_uploaded_model

_QUEUE_RETRY_SECONDS = 30
_AT_ONCE = 40
"""Concurrent submits of a process: a tenant that is further from its limit need not take a lock to count."""


def require_job(session: Session, tenant: str, job_id: str, *, lock: bool = False) -> Job:
    """The tenant's job. Raises a 404 problem, also for another tenant's job."""
    job = repository.get_job(session, tenant, job_id, lock=lock) if is_id(job_id, "job") else None
    if job is None:
        raise Problem(404, "job_not_found", "There is no such job.", remedy="List your jobs with GET /jobs.")
    return job


def require_artifact(session: Session, tenant: str, job_id: str, name: str) -> Artifact:
    """A file of the tenant's job. Raises a 404 problem."""
    require_job(session, tenant, job_id)
    artifact = repository.get_artifact(session, job_id, name) if name.isprintable() and len(name) <= 255 else None
    if artifact is None:
        raise Problem(
            404,
            "artifact_not_found",
            f"The job has no file {name!r}.",
            remedy=f"List its files with GET /jobs/{job_id}/artifacts.",
        )
    return artifact


def estimate_job(
    session: Session, settings: Settings, inspector: Inspector, asker: Asker, config: CompressionConfig
) -> Estimate:
    """The estimate of a run; ``config.dataset`` may be empty. Raises the errors of :func:`check_job`, except an
    infeasible budget."""
    speed = latest_speed(session)
    return _looked_at(
        session, asker.tenant, config,
        lambda look: inspector.estimate(config, settings.source_policy, asker, check_dataset=look, speed=speed),
    )  # fmt: skip


def check_job(
    session: Session, settings: Settings, inspector: Inspector, asker: Asker, request: JobRequest
) -> Estimate:
    """Reject a run that is certain to fail; returns its estimate. Ends the transaction of ``session``.

    An upload that was found before may have been deleted since, which :func:`submit_job` notices.

    Raises:
        UserError: the model, dataset or budget would make the run fail; if two of them would, ``others`` has one.
        DeadlineTooLongError: see :func:`app.jobs.deadline.deadline_of`.
        Problem: 503 ``busy``.
    """
    deadline_of(request.deadline, settings)
    config = request.config
    return _looked_at(
        session, asker.tenant, config,
        lambda look: inspector.check(config, settings.source_policy, asker, check_dataset=look), inspector.uploads,
    )  # fmt: skip


def submit_job(
    session: Session, settings: Settings, principal: Principal, request: JobRequest, memory_budget: int,
    idempotency_key: str | None, traceparent: str | None = None,
) -> tuple[Job, bool]:  # fmt: skip
    """Queue a run that passed :func:`check_job`, and owe the workers its wake-up.

    Returns:
        The job, and whether an earlier request with the same key and body had created it.

    Raises:
        ModelNotFoundError, DatasetNotFoundError: the upload was deleted meanwhile.
        Problem: 403 ``storage_full``; 409 ``idempotency_conflict``; 429 ``queue_full``.
    """
    tenant = principal.tenant
    before = hold_uploads(session, tenant, request.model, request.dataset)
    near_limit = before.unfinished + _AT_ONCE >= settings.max_queued_jobs
    if near_limit:
        repository.lock_queue(session, tenant)
    if earlier := earlier_job(session, tenant, request, idempotency_key):
        return earlier, True
    if near_limit:
        _require_room(session, settings, tenant)
    require_storage(session, settings, tenant)
    columns = _columns(principal, request, memory_budget, idempotency_key, settings, traceparent)
    try:
        job = repository.add_job(session, columns)
    except IntegrityError:  # the same request arrived twice at once, and the other was first
        session.rollback()
        if earlier := earlier_job(session, tenant, request, idempotency_key):
            return earlier, True
        raise
    for index, webhook in enumerate(request.webhooks):
        field = f"webhooks.{index}.url"
        add_webhook(session, settings, tenant, webhook.url, webhook.events, job.id, field=field)
    if before.has_webhooks or request.webhooks:
        owe_first_deliveries(session, job)
    return job, False


def answer_budget(session: Session, tenant: str, job_id: str, budget: int) -> BudgetAnswer:
    """The answer of the job's finished search for another budget.

    Raises:
        Problem: 404; 409 ``search_not_finished``.
        BudgetInfeasibleError: the model exceeds it at the smallest precisions.
    """
    require_job(session, tenant, job_id)
    summaries = repository.stage_summaries(session, job_id)
    rows = repository.list_trials(session, job_id)
    try:
        trials = [
            MeasuredTrial(
                index=row.index, origin=row.origin, precisions=tuple(row.precisions), bytes=row.bytes, loss=row.loss,
                screening_loss=row.loss if row.screening_loss is None else row.screening_loss,
                stopped_early=row.stopped_early,
            )
            for row in rows
        ]  # fmt: skip
        search = StoredSearch.of_summaries(summaries["score"], summaries["allocate"], trials)
    except (KeyError, ValidationError) as error:  # also of a release that stored less
        raise Problem(
            409,
            "search_not_finished",
            "The job has no finished search.",
            remedy=f"Wait until its stage allocate has finished: GET /jobs/{job_id}.",
        ) from error
    return search.answer(budget)


def cancel_job(session: Session, tenant: str, job_id: str) -> Job:
    """Stop a job: at once if no worker holds it, otherwise by a request to its worker.

    Raises:
        Problem: 404; 409 ``job_finished`` if it has succeeded or failed.
    """
    job = require_job(session, tenant, job_id, lock=True)
    if job.status == "cancelled":
        return job
    if job.status in TERMINAL:
        raise Problem(409, "job_finished", f"The job has already {job.status}.", remedy="Leave it, or DELETE it.")
    now = utc_now()
    held = job.status == "running" and job.lease_expires_at is not None and job.lease_expires_at > now
    if held:
        if job.cancel_requested_at is None:
            job.cancel_requested_at = now
            append_event(session, job.id, "cancel_requested")
        return job
    job.status = "cancelled"
    job.finished_at = now
    job.lease_owner = job.lease_token = job.lease_expires_at = None  # a returning worker finds that it has lost the job
    repository.drop_wake_up(session, job.id)
    append_event(session, job.id, "cancelled", {"stage": job.stage})
    return job


def retry_job(session: Session, settings: Settings, tenant: str, job_id: str, traceparent: str | None = None) -> Job:
    """Queue a failed or cancelled job again; it resumes after its last finished stage with all its attempts.

    Raises:
        ModelNotFoundError, DatasetNotFoundError: the upload was deleted meanwhile.
        Problem: 403 ``storage_full``; 404; 409 ``job_not_retryable``, ``upload_not_ready``; 429 ``queue_full``.
    """
    job = require_job(session, tenant, job_id)
    _require_retryable(job)
    hold_uploads(session, tenant, job.model, job.dataset)  # before the queue's lock, as a submit does
    repository.lock_queue(session, tenant)
    job = require_job(session, tenant, job_id, lock=True)
    _require_retryable(job)
    _require_room(session, settings, tenant)
    require_storage(session, settings, tenant)
    job.status = "queued"
    job.attempt = 0
    job.max_attempts = settings.max_attempts
    job.stage = job.error = job.finished_at = job.cancel_requested_at = job.deadline_at = None
    job.lease_owner = job.lease_token = job.lease_expires_at = None
    job.queued_at, job.was_lost, job.traceparent = utc_now(), False, traceparent
    repository.owe_wake_up(session, job.id)
    append_event(session, job.id, "retried")
    return job


def delete_job(session: Session, tenant: str, job_id: str) -> int:
    """Delete a finished job, its rows and, after the commit, its files; returns the freed bytes of the store.

    ``session``: one of :func:`app.storage.obsolete.deleting`.

    Raises:
        Problem: 404; 409 ``job_not_finished``.
    """
    job = require_job(session, tenant, job_id, lock=True)
    if job.status not in TERMINAL:
        raise Problem(409, "job_not_finished", f"The job is {job.status}.", remedy="Cancel it first.")
    freed = usage_of_job(session, job_id)
    record_obsolete(session, f"jobs/{job.id}/")
    repository.delete_job(session, job)
    return freed


def _looked_at(
    session: Session, tenant: str, config: CompressionConfig, look: Callable[[bool], Estimate],
    known: KnownUploads | None = None,
) -> Estimate:  # fmt: skip
    """Result of ``look``, called with whether to inspect the dataset as well. Ends the transaction of ``session``.

    The model is looked at also where the dataset cannot be used, so that both faults are named at once; never one that
    the tenant may not use.

    Inspecting a model takes a second, and SQLite would block every writer meanwhile: the transaction ends before.
    """
    if is_uploaded_model(config.model):
        require_model(session, tenant, config.model)
    needs_look, fault = dataset_fault(session, tenant, config, known)
    session.rollback()
    try:
        found = look(needs_look)
    except UserError as other:
        _, fault = dataset_fault(session, tenant, config)
        session.rollback()
        if fault is not None:
            other.others = (fault,)
        raise
    if fault is not None:
        raise fault
    return found


def earlier_job(session: Session, tenant: str, request: JobRequest, key: str | None) -> Job | None:
    """The job that the same request has created with ``key``. Raises a 409 problem for another request."""
    job = repository.find_by_idempotency_key(session, tenant, key) if key is not None else None
    if job is not None and job.request_sha256 != request.digest():
        raise Problem(
            409,
            "idempotency_conflict",
            f"This Idempotency-Key belongs to another request, which created {job.id}.",
            field="Idempotency-Key",
            remedy="Use a new key for a new request.",
        )
    return job


def _require_retryable(job: Job) -> None:
    if job.status not in ("failed", "cancelled"):
        raise Problem(
            409, "job_not_retryable", f"The job is {job.status}.", remedy="Only failed and cancelled jobs are retried."
        )


def _require_room(session: Session, settings: Settings, tenant: str) -> None:
    if repository.count_unfinished(session, tenant) >= settings.max_queued_jobs:
        raise Problem(
            429,
            "queue_full",
            f"{settings.max_queued_jobs} of your jobs are unfinished, which is the limit.",
            remedy="Wait for one to finish, or cancel one.",
            headers={"Retry-After": str(_QUEUE_RETRY_SECONDS)},
        )


def _columns(
    principal: Principal, request: JobRequest, memory_budget: int, idempotency_key: str | None, settings: Settings,
    traceparent: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Columns of a new job; the others are null."""
    config = request.config
    now = utc_now()
    return {
        "id": new_id("job"),
        "tenant": principal.tenant,
        "key_id": principal.key_id,
        "status": "queued",
        "queued_at": now,
        "priority": request.priority,
        "was_lost": False,
        "progress": 0.0,
        "attempt": 0,
        "max_attempts": settings.max_attempts,
        "deadline": deadline_of(request.deadline, settings),
        "model": config.model,
        "dataset": config.dataset,
        "memory_budget": memory_budget,
        "labels": request.labels,
        "config": config.model_dump(mode="json"),
        "idempotency_key": idempotency_key,
        "request_sha256": request.digest(),
        "created_at": now,
        "traceparent": traceparent,
    }
