"""The API's operations on jobs. The caller commits; :mod:`app.jobs.lease` is the workers' side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
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
from app.jobs.known_uploads import KnownUploads, UploadedDataset
from app.jobs.models import TERMINAL, Artifact, Job
from app.jobs.schemas import JobRequest
from app.jobs.speeds import latest_speed
from app.jobs.warm_up import load_core
from app.keys.principal import Principal
from app.problems import Problem
from app.settings import Settings
from app.storage.obsolete import record_obsolete
from app.storage.usage import require_storage, usage_of_job
from app.uploads import service as uploads
from app.uploads.models import Upload
from app.webhooks.outbox import owe_first_deliveries
from app.webhooks.service import add_webhook
from qpruner_core.config import CompressionConfig
from qpruner_core.dataset_forms import is_smaller_than_its_text
from qpruner_core.errors import DatasetNotFoundError, ModelNotFoundError, UserError
from qpruner_core.expected_inputs import refuse_another_dataset
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
    before = _hold_uploads(session, tenant, request.model, request.dataset)
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
    _hold_uploads(session, tenant, job.model, job.dataset)  # before the queue's lock, as a submit does
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
        _require_model(session, tenant, config.model)
    needs_look, fault = _dataset_fault(session, tenant, config, known)
    session.rollback()
    try:
        found = look(needs_look)
    except UserError as other:
        _, fault = _dataset_fault(session, tenant, config)
        session.rollback()
        if fault is not None:
            other.others = (fault,)
        raise
    if fault is not None:
        raise fault
    return found


def _dataset_fault(
    session: Session, tenant: str, config: CompressionConfig, known: KnownUploads | None = None
) -> tuple[bool, UserError | None]:
    """Whether the dataset of ``config`` has to be inspected, and why it cannot be used, as far as its row tells.

    The content of an upload was checked on arrival. The row of a ``known`` one is read only if it cannot be used.
    """
    if not is_upload(config.dataset):
        return bool(config.dataset), None
    if known is not None and (upload := known.get(tenant, config.dataset)):
        with suppress(UserError):
            _refuse_upload(config, upload)
            return False, None
    try:
        upload = _require_upload(session, tenant, config.dataset)
        _refuse_upload(config, upload)
    except UserError as fault:
        return False, fault
    if known is not None:
        known.keep(tenant, config.dataset, upload)
    return False, None


def _refuse_upload(config: CompressionConfig, upload: UploadedDataset) -> None:
    """Raise if a run of ``config`` cannot use ``upload``."""
    refuse_another_dataset(config, upload.sha256)
    load_core()
    from qpruner_core.data import refuse_too_few_bytes

    if not is_smaller_than_its_text(upload.filename):
        refuse_too_few_bytes(upload.bytes, config.sequence_length)


def is_upload(dataset: str) -> bool:
    """Whether ``dataset`` has the form of an upload's id."""
    return dataset.startswith("ds_") and "/" not in dataset


def _hold_uploads(session: Session, tenant: str, model: str, dataset: str) -> repository.BeforeSubmit:
    """From here on, deletion of the uploads among these waits until the job has recorded their use. Raises if one is
    gone."""
    if is_uploaded_model(model):
        _require_model(session, tenant, model, hold=True).used_at = utc_now()
    found = repository.before_submit(session, tenant, dataset)
    if is_upload(dataset) and found.dataset_id is None:
        raise _no_upload(session, tenant, dataset)
    return found


def _require_upload(session: Session, tenant: str, dataset_id: str) -> UploadedDataset:
    upload = repository.find_upload(session, tenant, dataset_id)
    if upload is None:
        raise _no_upload(session, tenant, dataset_id)
    return upload


def _no_upload(session: Session, tenant: str, dataset_id: str) -> UserError | Problem:
    if unfinished := uploads.find(session, tenant, dataset_id, uploads.DATASET):
        return uploads.not_ready(unfinished, "dataset")
    return DatasetNotFoundError(
        f"There is no dataset {dataset_id!r}.", field="dataset", remedy="Upload one with POST /datasets."
    )


def _require_model(session: Session, tenant: str, model_id: str, *, hold: bool = False) -> Upload:
    """The tenant's model, once it is ready; with ``hold`` it cannot be deleted in the transaction."""
    upload = uploads.find(session, tenant, model_id, uploads.MODEL, hold=hold)
    if upload is None:
        raise ModelNotFoundError(
            f"There is no model {model_id!r}.", field="model", remedy="Upload one with POST /models."
        )
    if upload.status != "ready":
        raise uploads.not_ready(upload, "model")
    return upload


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
