"""Requests about the output of a job's processes."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.dependencies import ReadSessionDep
from app.jobs import service
from app.jobs.endpoints import NOT_FOUND, JobId
from app.jobs.logs import list_logs
from app.keys.auth import Reader
from app.problems import problem_responses

router = APIRouter(prefix="/jobs", tags=["jobs"], responses=problem_responses("401 unauthenticated", "403 forbidden"))


class LogView(BaseModel):
    """The output of an attempt."""

    model_config = ConfigDict(from_attributes=True)
    attempt: int = Field(description="Number of the attempt, from 1.", examples=[1])
    text: str = Field(description="Output of its process, at most the last 64 KiB.", examples=["Loading …\n"])
    omitted_bytes: int = Field(description="Earlier bytes that were not kept.", examples=[0])
    updated_at: datetime = Field(description="Time of the last write.", examples=["2026-11-28T12:00:00Z"])


class LogList(BaseModel):
    """The output of every attempt, the first attempt first."""

    logs: list[LogView] = Field(description="One entry per attempt with output.")


@router.get("/{job_id}/logs", summary="Read a job's output", responses=problem_responses(NOT_FOUND))
def get_logs(job_id: JobId, principal: Reader, session: ReadSessionDep) -> LogList:
    """Output of the job's processes: warnings of libraries, and the traceback of a failure."""
    service.require_job(session, principal.tenant, job_id)
    return LogList(logs=[LogView.model_validate(row) for row in list_logs(session, job_id)])
