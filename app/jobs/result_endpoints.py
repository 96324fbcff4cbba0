"""Requests about what a job has found and made: trials, answers for other budgets, curves, files."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse

from app.database import utc_now
from app.dependencies import BaseUrlDep, ReadSessionDep, SettingsDep, StoreDep
from app.jobs import repository, service
from app.jobs.artifacts import described, in_order
from app.jobs.endpoints import NOT_FOUND, JobId
from app.jobs.models import Artifact
from app.jobs.schemas import (
    AllocationView,
    ArtifactList,
    CurvePoint,
    JobMetricsView,
    StoredArtifact,
    TrialList,
    TrialView,
)
from app.keys.auth import Reader
from app.problems import problem_responses
from app.settings import Settings
from qpruner_core.report import CompressionReport
from qpruner_core.search.trial import pareto_front
from qpruner_core.sizes import parse_bytes

router = APIRouter(prefix="/jobs", tags=["jobs"], responses=problem_responses("401 unauthenticated", "403 forbidden"))


@router.get("/{job_id}/trials", summary="See the search", responses=problem_responses(NOT_FOUND))
def list_trials(job_id: JobId, principal: Reader, session: ReadSessionDep) -> TrialList:
    """Every allocation of precisions tried so far, and the Pareto front of bytes against quality."""
    job = service.require_job(session, principal.tenant, job_id)
    trials = [
        TrialView(
            index=trial.index,
            origin=trial.origin,
            precisions=trial.precisions,
            bytes=trial.bytes,
            loss=trial.loss,
            stopped_early=trial.stopped_early,
        )
        for trial in repository.list_trials(session, job_id)
    ]
    chosen = [trial.index for trial in trials if job.result and trial.precisions == job.result["precisions"]]
    return TrialList(
        groups=repository.stage_summaries(session, job_id).get("score", {}).get("groups", []),
        trials=trials,
        pareto_front=[trial.index for trial in pareto_front(trials)],
        selected=chosen[0] if chosen else None,
    )


@router.get(
    "/{job_id}/allocation",
    summary="Query another budget",
    responses=problem_responses(
        NOT_FOUND, "409 search_not_finished", "422 budget_infeasible", "422 budget_invalid", "422 invalid_request"
    ),
)
def get_allocation(
    job_id: JobId,
    principal: Reader,
    session: ReadSessionDep,
    memory_budget: Annotated[
        str, Query(max_length=64, description='Bytes of the loaded model, as a number or as "130MB" or "6GiB".',
                   examples=["120MB"])
    ],
) -> AllocationView:  # fmt: skip
    """The best known allocation for another budget, at once and without a model.

    `POST /jobs` with that budget and a `prune.ratio` reuses pruning, scores and measured losses of this job: scores and
    losses only if both search the same precisions, which `allocate.precisions` can fix.
    """
    answer = service.answer_budget(session, principal.tenant, job_id, parse_bytes(memory_budget))
    return AllocationView.model_validate(answer.model_dump())


@router.get("/{job_id}/metrics", summary="See curves and measurements", responses=problem_responses(NOT_FOUND))
def get_metrics(job_id: JobId, principal: Reader, session: ReadSessionDep) -> JobMetricsView:
    """Curves so far, such as the loss of recovery, and the table of before and after."""
    job = service.require_job(session, principal.tenant, job_id)
    curves: dict[str, list[CurvePoint]] = {}
    for point in repository.list_metrics(session, job_id):
        curves.setdefault(point.name, []).append(CurvePoint(step=point.step, value=point.value))
    report = CompressionReport.model_validate(job.result) if job.result else None
    return JobMetricsView(curves=curves, measurements=report.measurements if report else [])


@router.get(
    "/{job_id}/artifacts",
    summary="List a job's files",
    responses=problem_responses(NOT_FOUND, "503 store_unavailable"),
)
def list_artifacts(
    job_id: JobId,
    principal: Reader,
    session: ReadSessionDep,
    store: StoreDep,
    settings: SettingsDep,
    base_url: BaseUrlDep,
) -> ArtifactList:
    """Every file with its name, size, SHA-256, signed URL, and the commands that run it. The recommended one comes
    first."""
    job = service.require_job(session, principal.tenant, job_id)
    expires_at = utc_now() + timedelta(seconds=settings.signed_url_seconds)
    views = []
    for artifact in in_order(repository.list_artifacts(session, job_id)):
        url = _signed_url(store, settings, artifact, base_url)
        views.append(described(job, artifact, StoredArtifact.of(artifact, url, expires_at)))
    return ArtifactList(artifacts=views)


@router.get(
    "/{job_id}/artifacts/{name}",
    status_code=307,
    response_class=RedirectResponse,
    summary="Download a file",
    responses={
        200: {
            "description": "The file, after following the redirect.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problem_responses(NOT_FOUND, "404 artifact_not_found", "503 store_unavailable"),
    },
)
def get_artifact(
    job_id: JobId,
    name: str,
    principal: Reader,
    session: ReadSessionDep,
    store: StoreDep,
    settings: SettingsDep,
    base_url: BaseUrlDep,
) -> RedirectResponse:
    """Redirects to a signed URL, which supports Range requests. With curl: `-L`."""
    artifact = service.require_artifact(session, principal.tenant, job_id, name)
    url = _signed_url(store, settings, artifact, base_url)
    return RedirectResponse(url, 307, headers={"Cache-Control": "no-store"})


def _signed_url(store: StoreDep, settings: Settings, artifact: Artifact, base_url: str) -> str:
    return store.signed_url(
        artifact.key, expires_in=settings.signed_url_seconds, filename=artifact.name, base_url=base_url
    )
