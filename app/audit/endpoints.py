"""Who changed what, for the administrators of a tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.audit.entries import newest
from app.dependencies import ReadSessionDep
from app.keys.auth import Admin
from app.problems import problem_responses
from app.query_values import require_digits

router = APIRouter(tags=["keys"], responses=problem_responses("401 unauthenticated", "403 forbidden"))


class AuditEntryView(BaseModel):
    """One change."""

    model_config = ConfigDict(from_attributes=True)
    id: int = Field(description="Increases with each entry.", examples=[1042])
    at: datetime = Field(description="Time of the change.", examples=["2026-11-28T12:00:00Z"])
    actor: str = Field(
        description="Id of the key, `local` if no key is required, or `operator:` with the user of a command.",
        examples=["key_01k9t4ae5xfz3v2s6q0m8y1d7c"],
    )
    action: str = Field(description="Action.", examples=["job.submit"])
    target: str = Field(description="Target of the action.", examples=["job_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    request_id: str | None = Field(description="Identifies the request in the log.")
    address: str | None = Field(description="Client address of the request.", examples=["127.0.0.1"])


class AuditPage(BaseModel):
    """A page of changes."""

    entries: list[AuditEntryView] = Field(description="Newest first.")
    next_before: int | None = Field(description="Send it as `before` for older ones; null on the last page.")


@router.get("/audit", summary="See who changed what", responses=problem_responses("422 invalid_request"))
def list_audit(
    principal: Admin,
    session: ReadSessionDep,
    before: Annotated[
        int | None,
        BeforeValidator(require_digits),
        Query(ge=1, lt=2**63, description="`next_before` of the previous page."),
    ] = None,
    limit: Annotated[int, BeforeValidator(require_digits), Query(ge=1, le=100, description="Maximum number.")] = 20,
) -> AuditPage:
    """Changes of your tenant's data; entries outlive their jobs, datasets and keys. `qpruner audit` exports them."""
    rows = newest(session, principal.tenant, before=before, limit=limit + 1)
    return AuditPage(
        entries=[AuditEntryView.model_validate(row) for row in rows[:limit]],
        next_before=rows[limit - 1].id if len(rows) > limit else None,
    )
