"""Usage of the store by a tenant."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.dependencies import ReadSessionDep, SettingsDep
from app.keys.auth import Reader
from app.problems import problem_responses
from app.storage.retention import days_of
from app.storage.usage import usage_of

router = APIRouter(tags=["storage"], responses=problem_responses("401 unauthenticated", "403 forbidden"))


class StorageView(BaseModel):
    """Bytes in the store, and how long they are kept."""

    datasets_bytes: int = Field(description="Bytes of uploaded datasets.")
    models_bytes: int = Field(description="Bytes of uploaded models, and of uploads that are unfinished.")
    artifacts_bytes: int = Field(description="Bytes of files to download.")
    stages_bytes: int = Field(description="Bytes of stages that later jobs or attempts reuse.")
    total_bytes: int = Field(description="Sum of all of these.")
    limit_bytes: int | None = Field(description="Limit of the sum; null: no limit.")
    keep_artifacts_days: int | None = Field(description="Days that files to download are kept; null: forever.")
    keep_stages_days: int | None = Field(description="Days that stages are kept; null: forever.")
    keep_models_days: int | None = Field(
        description="Days that uploaded models are kept without being used; null: forever."
    )
    keep_events_days: int | None = Field(description="Days that the history of a job is kept; null: forever.")


@router.get("/storage", summary="See storage usage")
def get_storage(principal: Reader, session: ReadSessionDep, settings: SettingsDep) -> StorageView:
    """Your bytes in the store, their limit, and how long they are kept."""
    used = usage_of(session, principal.tenant)
    return StorageView(
        datasets_bytes=used.datasets,
        models_bytes=used.models,
        artifacts_bytes=used.artifacts,
        stages_bytes=used.stages,
        total_bytes=used.total,
        limit_bytes=settings.max_storage_bytes,
        keep_artifacts_days=days_of(settings.keep_artifacts_days, principal.tenant),
        keep_stages_days=days_of(settings.keep_stages_days, principal.tenant),
        keep_models_days=days_of(settings.keep_models_days, principal.tenant),
        keep_events_days=days_of(settings.keep_events_days, principal.tenant),
    )
