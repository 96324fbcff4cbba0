"""What the API does with jobs. The caller commits; :mod:`app.jobs.lease` is the workers' side."""

from __future__ import annotations

from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import utc_now
from app.ids import is_id, new_id
from app.jobs import repository
from app.jobs.deadline import deadline_of
from app.jobs.history import append_event
from app.jobs.inspection import Asker, Inspector
from app.jobs.models import TERMINAL, Artifact, Job
from app.jobs.schemas import JobRequest
from app.jobs.speeds import latest_speed
from app.jobs.warm_up import load_core
from app.keys.auth import Principal
from app.problems import Problem
from app.settings import Settings
from app.storage.usage import require_storage, usage_of_job
from app.store.base import ArtifactStore
from app.webhooks.outbox import owe_first_deliveries
from app.webhooks.service import add_webhook
from qpruner_core.config import CompressionConfig
from qpruner_core.dataset_forms import is_smaller_than_its_text
from qpruner_core.errors import DatasetNotFoundError
from qpruner_core.expected_inputs import refuse_another_dataset
from qpruner_core.report import Estimate
from qpruner_core.search.stored_search import BudgetAnswer, StoredSearch
from qpruner_core.search.trial import MeasuredTrial

_QUEUE_RETRY_SECONDS = 30
_AT_ONCE = 40
"""Submits that a process may have under way: a tenant that is further from its limit need not count in turn."""


def require_job(session: Session, tenant: str, job_id: str, *, lock: bool = False) -> Job:
    """The tenant's job. Raises a 404 problem, which does not tell another tenant's job from none."""
    job = repository.get_job(session, tenant, job_id, lock=lock) if is_id(job_id, "job") else None
    if job is None:
        raise Problem(404, "job_not_found", "There is no such job.", remedy="GET /jobs lists yours.")
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
            remedy=f"GET /jobs/{job_id}/artifacts lists them.",
        )
    return artifact


def estimate_job(
    session: Session, settings: Settings, inspector: Inspector, asker: Asker, config: CompressionConfig
) -> Estimate:
    """What a run would come to. Raises what :func:`submit_job` raises, but for an infeasible budget."""
    speed = latest_speed(session)
    uploaded = _release_after_dataset_check(session, asker.tenant, config)
    return inspector.estimate(config, settings.source_policy, asker, check_dataset=not uploaded, speed=speed)


def check_job(
    session: Session, settings: Settings, inspector: Inspector, asker: Asker, request: JobRequest
) -> Estimate:
    """Refuse a run that is known beforehand to fail; what it comes to. Ends the transaction of ``session``.

    Raises:
        UserError: the model, dataset or budget would make the run fail.
        DeadlineTooLongError: see :func:`app.jobs.deadline.deadline_of`.
        Problem: 503 ``busy``.
    """
    deadline_of(request.deadline, settings)
    uploaded = _release_after_dataset_check(session, asker.tenant, request)
    return inspector.check(request.config(), settings.source_policy, asker, check_dataset=not uploaded)


def submit_job(
    session: Session, settings: Settings, principal: Principal, request: JobRequest, memory_budget: int,
    idempotency_key: str | None, traceparent: str | None = None,
) -> tuple[Job, bool]:  # fmt: skip
    """Queue a run that :func:`check_job` has let pass, and owe the workers its wake-up.

    Returns:
        The job, and whether an earlier request with the same key and body had made it.

    Raises:
        DatasetNotFoundError: the upload was deleted meanwhile.
        Problem: 409 ``idempotency_conflict``, 429 ``queue_full``.
    """
    tenant = principal.tenant
    if is_upload(request.dataset):  # from here on, its deletion waits until the job says that it is in use
        _require_upload(session, tenant, request.dataset, hold=True)
    near_limit = repository.count_unfinished(session, tenant) + _AT_ONCE >= settings.max_queued_jobs
    if near_limit:
        repository.lock_queue(session, tenant)
    if earlier := earlier_job(session, tenant, request, idempotency_key):
        return earlier, True
    if near_limit:
        _require_room(session, settings, tenant)
    require_storage(session, settings, tenant)
    job = _new_job(principal, request, memory_budget, idempotency_key, settings)
    job.traceparent = traceparent
    try:
        repository.add_job(session, job)
    except IntegrityError:  # the same request came in twice at once, and the other was first
        session.rollback()
        if earlier := earlier_job(session, tenant, request, idempotency_key):
            return earlier, True
        raise
    for index, webhook in enumerate(request.webhooks):
        field = f"webhooks.{index}.url"
        add_webhook(session, settings, tenant, webhook.url, webhook.events, job.id, field=field)
    owe_first_deliveries(session, job)
    return job, False


def answer_budget(session: Session, tenant: str, job_id: str, budget: int) -> BudgetAnswer:
    """What the job's finished search says of another budget.

    Raises:
        Problem: 404; 409 ``search_not_finished``.
        BudgetInfeasibleError: at the smallest precisions, the model takes more.
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
    except (KeyError, ValidationError) as error:  # of a release that kept less, too
        raise Problem(
            409,
            "search_not_finished",
            "The job has no finished search to ask.",
            remedy=f"Wait until its stage allocate has finished: GET /jobs/{job_id}.",
        ) from error
    return search.answer(budget)


def cancel_job(session: Session, tenant: str, job_id: str) -> Job:
    """Stop a job: at once if no worker holds it, else by asking its worker.

    Raises:
        Problem: 404; 409 ``job_finished`` if it has succeeded or failed.
    """
    job = require_job(session, tenant, job_id, lock=True)
    if job.status == "cancelled":
        return job
    if job.status in TERMINAL:
        raise Problem(409, "job_finished", f"The job has {job.status} already.", remedy="Leave it, or DELETE it.")
    now = utc_now()
    held = job.status == "running" and job.lease_expires_at is not None and job.lease_expires_at > now
    if held:
        if job.cancel_requested_at is None:
            job.cancel_requested_at = now
            append_event(session, job.id, "cancel_requested")
        return job
    job.status = "cancelled"
    job.finished_at = now
    job.lease_owner = job.lease_token = job.lease_expires_at = None  # a worker that comes back finds it has lost it
    repository.drop_wake_up(session, job.id)
    append_event(session, job.id, "cancelled", {"stage": job.stage})
    return job


def retry_job(session: Session, settings: Settings, tenant: str, job_id: str, traceparent: str | None = None) -> Job:
    """Queue a failed or cancelled job again; it goes on from its last finished stage with all its attempts.

    Raises:
        Problem: 404; 409 ``job_not_retryable``; 429 ``queue_full``.
    """
    repository.lock_queue(session, tenant)
    job = require_job(session, tenant, job_id, lock=True)
    if job.status not in ("failed", "cancelled"):
        raise Problem(
            409, "job_not_retryable", f"The job is {job.status}.", remedy="Only failed and cancelled jobs are retried."
        )
    _require_room(session, settings, tenant)
    job.status = "queued"
    job.attempt = 0
    job.max_attempts = settings.max_attempts
    job.stage = job.error = job.finished_at = job.cancel_requested_at = job.deadline_at = None
    job.lease_owner = job.lease_token = job.lease_expires_at = None
    job.queued_at, job.was_lost, job.traceparent = utc_now(), False, traceparent
    repository.owe_wake_up(session, job.id)
    append_event(session, job.id, "retried")
    return job


def delete_job(session: Session, store: ArtifactStore, tenant: str, job_id: str) -> int:
    """Delete a finished job, its rows and its files; how many bytes of the store that frees.

    Raises:
        Problem: 404; 409 ``job_not_finished``.
        StoreUnavailableError: nothing was deleted from the database; deleting again goes on.
    """
    job = require_job(session, tenant, job_id, lock=True)
    if job.status not in TERMINAL:
        raise Problem(409, "job_not_finished", f"The job is {job.status}.", remedy="Cancel it first.")
    store.delete_prefix(f"jobs/{job.id}/")  # files first: rows without files can be deleted again, the reverse leaks
    freed = usage_of_job(session, job_id)
    repository.delete_job(session, job)
    return freed


def _release_after_dataset_check(session: Session, tenant: str, config: CompressionConfig) -> bool:
    """Whether the dataset of ``config`` is one of the tenant's uploads, whose content was checked when it came.

    Ends the transaction: looking at a model takes a second, and SQLite would make every writer wait for it.
    """
    dataset = config.dataset
    uploaded = is_upload(dataset)
    if uploaded:
        filename, size, sha256 = _require_upload(session, tenant, dataset)
        refuse_another_dataset(config, sha256)
        load_core()
        from qpruner_core.data import refuse_too_few_bytes

        if not is_smaller_than_its_text(filename):
            refuse_too_few_bytes(size, config.sequence_length)
    session.rollback()
    return uploaded


def is_upload(dataset: str) -> bool:
    """Whether ``dataset`` is written as the id of an upload."""
    return dataset.startswith("ds_") and "/" not in dataset


def _require_upload(session: Session, tenant: str, dataset_id: str, *, hold: bool = False) -> tuple[str, int, str]:
    upload = repository.find_upload(session, tenant, dataset_id, hold=hold)
    if upload is None:
        raise DatasetNotFoundError(
            f"There is no dataset {dataset_id!r}.", field="dataset", remedy="Upload one with POST /datasets."
        )
    return upload


def earlier_job(session: Session, tenant: str, request: JobRequest, key: str | None) -> Job | None:
    """The job that the same request has made with ``key``. Raises a 409 problem if another request has."""
    job = repository.find_by_idempotency_key(session, tenant, key) if key is not None else None
    if job is not None and job.request_sha256 != request.digest():
        raise Problem(
            409,
            "idempotency_conflict",
            f"This Idempotency-Key belongs to another request, which made {job.id}.",
            field="Idempotency-Key",
            remedy="Take a new key for a new request.",
        )
    return job


def _require_room(session: Session, settings: Settings, tenant: str) -> None:
    if repository.count_unfinished(session, tenant) >= settings.max_queued_jobs:
        raise Problem(
            429,
            "queue_full",
            f"{settings.max_queued_jobs} of your jobs are unfinished, which is the limit.",
            remedy="Wait for one to finish, or cancel one.",
            headers={"Retry-After": str(_QUEUE_RETRY_SECONDS)},
        )


def _new_job(
    principal: Principal, request: JobRequest, memory_budget: int, idempotency_key: str | None, settings: Settings
) -> Job:
    config = request.config()
    now = utc_now()
    return Job(
        id=new_id("job"),
        tenant=principal.tenant,
        key_id=principal.key_id,
        status="queued",
        queued_at=now,
        priority=request.priority,
        was_lost=False,
        progress=0.0,
        attempt=0,
        max_attempts=settings.max_attempts,
        deadline=deadline_of(request.deadline, settings),
        model=config.model,
        dataset=config.dataset,
        memory_budget=memory_budget,
        labels=request.labels,
        config=config.model_dump(mode="json"),
        idempotency_key=idempotency_key,
        request_sha256=request.digest(),
        created_at=now,
    )
