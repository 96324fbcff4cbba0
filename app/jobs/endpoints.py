"""Requests about jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Response
from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from sqlalchemy.orm import Session

from app.audit import entries as audit
from app.database import as_utc
from app.dependencies import (
    DeletingSessionDep,
    ReadSessionDep,
    SessionDep,
    SettingsDep,
    StreamsDep,
    SubmitPartsDep,
    TraceparentDep,
)
from app.jobs import repository, service
from app.jobs.cursor import decode_cursor, encode_cursor
from app.jobs.deadline import deadline_of
from app.jobs.event_views import EventPage, readable
from app.jobs.given_settings import request_of
from app.jobs.inspection import Asker
from app.jobs.models import TERMINAL, Job, JobStatus
from app.jobs.outlook import outlook_of
from app.jobs.schemas import (
    EXAMPLE_REQUEST,
    EstimateRequest,
    JobPage,
    JobRequest,
    JobSummary,
    JobView,
)
from app.keys.auth import Reader, Submitter
from app.problems import problem_responses
from app.query_values import require_digits, require_rfc3339
from app.settings import Settings
from qpruner_core.report import Estimate

NOT_FOUND = "404 job_not_found"
BAD_RUN = (
    "400 invalid_json", "413 body_too_large", "415 unsupported_media_type", "422 invalid_config", "422 budget_invalid",
    "422 model_not_found", "422 model_gated", "422 model_too_large", "422 unsupported_architecture",
    "422 unsupported_by_target", "422 unsafe_model", "422 corrupt_model",
    "422 path_not_allowed", "422 dataset_not_found", "422 dataset_invalid", "422 other_inputs",
    "422 dataset_too_short", "422 deadline_too_long", "413 dataset_too_large", "413 body_too_complex",
    "503 hub_unavailable", "503 database_unavailable", "503 busy",
    "500 cache_unusable", "409 upload_not_ready",
)  # fmt: skip

_MOST_WORDS = 8
router = APIRouter(prefix="/jobs", tags=["jobs"], responses=problem_responses("401 unauthenticated", "403 forbidden"))

JobId = Annotated[str, Path(examples=["job_01k9t4ae5xfz3v2s6q0m8y1d7c"])]
EventId = Annotated[int, BeforeValidator(require_digits), Query(ge=0, lt=2**63)]
Moment = Annotated[AwareDatetime, BeforeValidator(require_rfc3339), AfterValidator(as_utc)]
RunBody = Annotated[
    JobRequest,
    Body(
        openapi_examples={
            "upload": {
                "summary": "On a dataset of yours",
                "description": "Send your file to `POST /datasets` first: the response has the `id` for `dataset`.",
                "value": EXAMPLE_REQUEST,
            }
        }
    ),
]
EstimateBody = Annotated[
    EstimateRequest,
    Body(
        openapi_examples={
            "model": {
                "summary": "Without a dataset",
                "description": "Feasibility of a budget depends only on the model.",
                "value": {key: EXAMPLE_REQUEST[key] for key in ("model", "memory_budget", "target")},
            }
        }
    ),
]


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    summary="Compress a model",
    responses={
        200: {"model": JobView, "description": "An earlier request with this Idempotency-Key has created this job."},
        **problem_responses(
            *BAD_RUN,
            "409 idempotency_conflict",
            "422 webhook_url_refused",
            "422 budget_infeasible",
            "403 forbidden",
            "403 storage_full",
            "429 queue_full",
            "503 store_unavailable",
        ),
    },
)
def submit_job(
    body: RunBody,
    principal: Submitter,
    parts: SubmitPartsDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="Lets you retry safely: the same key returns the same job.",
        ),
    ] = None,
) -> Response:
    """Queue a run. A run that is certain to fail is rejected, and nothing is queued.

    `dataset` is an id from `POST /datasets`, a file below one of the service's roots, or a hub dataset. `model` is a
    hub id, an id from `POST /models`, or a folder below one of the roots.
    """
    with parts.reading() as reading:
        job = service.earlier_job(reading, principal.tenant, body, idempotency_key) if idempotency_key else None
        replayed = job is not None
        if job is None:
            asker = Asker(principal.tenant, parts.client_left)
            checked = service.check_job(reading, parts.settings, parts.inspector, asker, body)
            with parts.sessions() as session:  # its locks block other submits: it ends here, not with the request
                job, replayed = service.submit_job(
                    session, parts.settings, principal, body, checked.memory_budget, idempotency_key, parts.traceparent
                )  # fmt: skip
                if not replayed:
                    audit.record(session, principal, "job.submit", job.id)
                session.commit()
        view = JobView.of(job, _finished(reading, job) if replayed else {})
    headers = {"Location": f"/jobs/{job.id}"} | ({"Idempotent-Replayed": "true"} if replayed else {})
    # Serialized here: FastAPI would take a second thread for it
    return Response(view.model_dump_json(), 200 if replayed else 202, headers, media_type="application/json")


@router.post("/estimate", summary="Estimate a run", responses=problem_responses(*BAD_RUN, "422 budget_infeasible"))
def estimate_job(
    body: EstimateBody, principal: Submitter, session: ReadSessionDep, parts: SubmitPartsDep
) -> Estimate:  # fmt: skip
    """Predict a run, without running or queueing anything. `dataset` may be left out.

    Rejects everything that `POST /jobs` rejects, except an infeasible budget, which is `feasible: false`. A device of
    `fit` without room for any weights is rejected with `budget_infeasible`.
    """
    deadline_of(body.deadline, parts.settings)
    asker = Asker(principal.tenant, parts.client_left)
    return service.estimate_job(session, parts.settings, parts.inspector, asker, body.config)


async def _filter(
    status: Annotated[list[JobStatus], Query(description="Any of these.", max_length=16)] = [],  # noqa: B006
    model: Annotated[str | None, Query(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=r"^[^\x00-\x1f\x7f]*$",
            description="Words to search for. Each is part of the id, the model, the dataset or a label, capitals or "
            "not; `key:value` is a label that begins so.",
            examples=["smollm2 team:search"],
        ),
    ] = None,
    label: Annotated[
        list[Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{1,63}:[^\x00-\x1f\x7f]{0,255}$")]],
        Query(description="`key:value`; all of these.", max_length=16),
    ] = [],  # noqa: B006
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> repository.JobFilter:
    labels = tuple((key, value) for key, _, value in (one.partition(":") for one in label))
    words = tuple((q or "").split()[:_MOST_WORDS])
    return repository.JobFilter(tuple(status), model, words, labels, created_after, created_before)


@router.get("", summary="List jobs", responses=problem_responses("422 invalid_cursor", "422 invalid_request"))
def list_jobs(
    principal: Reader,
    session: ReadSessionDep,
    wanted: Annotated[repository.JobFilter, Depends(_filter)],
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page.")] = None,
    limit: Annotated[int, BeforeValidator(require_digits), Query(ge=1, le=100)] = 20,
) -> JobPage:
    """Newest first. Jobs submitted while you read do not shift the pages."""
    before = decode_cursor(cursor) if cursor is not None else None
    jobs = repository.list_jobs(session, principal.tenant, wanted, before=before, limit=limit + 1)
    page, last = jobs[:limit], jobs[limit - 1] if len(jobs) > limit else None
    return JobPage(
        jobs=[JobSummary.of(job) for job in page],
        next_cursor=encode_cursor(last.created_at, last.id) if last else None,
    )


@router.get("/{job_id}", summary="See a job", responses=problem_responses(NOT_FOUND))
def get_job(job_id: JobId, principal: Reader, session: ReadSessionDep, settings: SettingsDep) -> JobView:
    """Status, stage, progress, attempts, timings, place in the queue; the result or the error once it has ended."""
    return _view(session, settings, service.require_job(session, principal.tenant, job_id))


@router.get(
    "/{job_id}/request",
    summary="See the request of a job",
    response_description="A body of `POST /jobs`.",
    responses={
        200: {"content": {"application/json": {"example": EXAMPLE_REQUEST}}},
        **problem_responses(NOT_FOUND),
    },
)
def get_request(job_id: JobId, principal: Reader, session: ReadSessionDep, settings: SettingsDep) -> dict[str, Any]:
    """A body of `POST /jobs` for the same job, to edit and submit: settings other than defaults, labels, priority and
    deadline."""
    job = service.require_job(session, principal.tenant, job_id)
    return request_of(job, deadline_of(None, settings))


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_model=EventPage,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {
            "description": (
                "The job has ended and `Last-Event-ID` was its last event: an EventSource stops reconnecting."
            )
        },
        **problem_responses(NOT_FOUND, "422 invalid_request", "429 too_many_streams"),
    },
)
def list_events(
    job_id: JobId,
    principal: Reader,
    session: ReadSessionDep,
    streams: StreamsDep,
    accept: Annotated[str, Header(description="`text/event-stream` for a live stream.")] = "",
    last_event_id: Annotated[
        int | None, BeforeValidator(require_digits), Header(ge=0, lt=2**63, description="Overrides `after`.")
    ] = None,
    after: EventId = 0,
    limit: Annotated[int, BeforeValidator(require_digits), Query(ge=1, le=1000)] = 200,
) -> Any:
    """A job's history as JSON, or live as Server-Sent Events if `Accept` is `text/event-stream`.

    The stream sends each event with its id, so that a client that reconnects with `Last-Event-ID` gets every event
    exactly once. It ends when the job has ended.
    """
    job = service.require_job(session, principal.tenant, job_id)
    after = after if last_event_id is None else last_event_id
    if "text/event-stream" not in accept:
        events = repository.list_events(session, job_id, after=after, limit=limit + 1)
        return EventPage(
            events=readable(events[:limit]), next_after=events[limit - 1].id if len(events) > limit else None
        )
    resumed_after_end = last_event_id is not None and job.status in TERMINAL
    if resumed_after_end and not readable(repository.list_events(session, job_id, after=after, limit=limit)):
        return Response(status_code=204)
    return streams.open(job_id, after, principal.key_id or principal.tenant)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    responses={
        200: {"model": JobView, "description": "The job is cancelled."},
        **problem_responses(NOT_FOUND, "409 job_finished"),
    },
)
def cancel_job(
    job_id: JobId, principal: Submitter, session: SessionDep, settings: SettingsDep, response: Response
) -> JobView:
    """Cancels at once if no worker runs the job; otherwise returns 202, and the worker stops within seconds."""
    job = service.cancel_job(session, principal.tenant, job_id)
    audit.record(session, principal, "job.cancel", job.id)
    response.status_code = 200 if job.status == "cancelled" else 202
    return _view(session, settings, job)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Retry a job",
    responses=problem_responses(
        "403 forbidden",
        "403 storage_full",
        NOT_FOUND,
        "409 job_not_retryable",
        "409 upload_not_ready",
        "422 dataset_not_found",
        "422 model_not_found",
        "429 queue_full",
    ),
)
def retry_job(
    job_id: JobId, principal: Submitter, session: SessionDep, settings: SettingsDep, traceparent: TraceparentDep
) -> JobView:
    """Queue a failed or cancelled job again. It resumes after its last finished stage."""
    job = service.retry_job(session, settings, principal.tenant, job_id, traceparent)
    audit.record(session, principal, "job.retry", job.id)
    return _view(session, settings, job)


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Delete a job",
    responses=problem_responses(NOT_FOUND, "409 job_not_finished", "503 store_unavailable"),
)
def delete_job(job_id: JobId, principal: Submitter, session: DeletingSessionDep, response: Response) -> None:
    """Deletes the job, its history and its files permanently. An unfinished job must be cancelled first.

    The header `X-Freed-Bytes` has the freed bytes of the store.
    """
    response.headers["X-Freed-Bytes"] = str(service.delete_job(session, principal.tenant, job_id))
    audit.record(session, principal, "job.delete", job_id)


def _view(session: Session, settings: Settings, job: Job) -> JobView:
    session.flush()
    outlook = None if job.status in TERMINAL else outlook_of(session, settings, job)
    return JobView.of(job, _finished(session, job), outlook)


def _finished(session: Session, job: Job) -> dict[str, repository.FinishedStage]:
    return repository.finished_stages(session, [job.id])[job.id]
