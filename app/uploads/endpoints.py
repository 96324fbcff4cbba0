"""Requests about models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BeforeValidator

from app.audit import entries as audit
from app.dependencies import (
    BaseUrlDep,
    DeletingSessionDep,
    ReadSessionDep,
    SessionFactoryDep,
    SettingsDep,
    StoreDep,
)
from app.ids import is_id
from app.keys.auth import Reader, Submitter
from app.problems import Problem, problem_responses
from app.query_values import require_digits
from app.settings import Settings
from app.uploads import service
from app.uploads.names import refuse_bad_names
from app.uploads.schemas import ModelPage, ModelRequest, ModelSummary, ModelView, PartsView
from app.uploads.service import Access
from qpruner_core.errors import ModelTooLargeError
from qpruner_core.sizes import format_bytes

NOT_FOUND = "404 model_not_found"
FIRST_PARTS = 100
BEGIN_PROBLEMS = (
    "400 invalid_json", "403 forbidden", "403 storage_full", "413 body_too_large", "422 invalid_config",
    "429 too_many_uploads", "503 store_unavailable",
)  # fmt: skip

router = APIRouter(
    prefix="/models", tags=["models"], responses=problem_responses("401 unauthenticated", "403 forbidden")
)
ModelId = Annotated[str, Path(description="Id of the model.", examples=["md_01k9t4ae5xfz3v2s6q0m8y1d7c"])]
PartLimit = Annotated[
    int, BeforeValidator(require_digits), Query(ge=1, le=1000, description="Maximum number of missing parts.")
]


@router.post(
    "",
    status_code=201,
    summary="Upload a model",
    responses=problem_responses(
        *BEGIN_PROBLEMS, "415 unsupported_media_type", "422 file_refused", "422 model_incomplete", "422 model_too_large"
    ),
)
def upload_model(
    body: ModelRequest,
    principal: Submitter,
    sessions: SessionFactoryDep,
    settings: SettingsDep,
    store: StoreDep,
    base_url: BaseUrlDep,
    response: Response,
) -> ModelView:
    """Name the files with their bytes and SHA-256; the response has signed URLs to PUT their parts to.

    Then `POST /models/{id}/complete`. A worker verifies every file and inspects the model as a job would.
    """
    refuse_bad_names([file.name for file in body.files])
    _refuse_too_large(sum(file.bytes for file in body.files), settings)
    upload, files = service.begin(sessions, settings, store, principal, service.MODEL, body.name, body.files)
    response.headers["Location"] = f"/models/{upload.id}"
    access = Access(store, base_url, settings.signed_url_seconds)
    return ModelView.with_files(upload, files, service.parts_of(upload, files, access, FIRST_PARTS, new=True))


@router.get("", summary="List models", responses=problem_responses("422 invalid_cursor"))
def list_models(
    principal: Reader,
    session: ReadSessionDep,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page.")] = None,
    limit: Annotated[int, BeforeValidator(require_digits), Query(ge=1, le=100)] = 20,
) -> ModelPage:
    """Uploaded models, newest first, including those that are not ready."""
    if cursor is not None and not is_id(cursor, service.MODEL):
        raise Problem(
            422,
            "invalid_cursor",
            "The cursor does not come from a page of models.",
            field="cursor",
            remedy="Use next_cursor of the previous page, or none for the first page.",
        )
    rows = service.list_models(session, principal.tenant, before=cursor, limit=limit + 1)
    return ModelPage(
        models=[ModelSummary.of(row) for row in rows[:limit]],
        next_cursor=rows[limit - 1].id if len(rows) > limit else None,
    )


@router.get("/{model_id}", summary="See a model", responses=problem_responses(NOT_FOUND))
def get_model(model_id: ModelId, principal: Reader, session: ReadSessionDep) -> ModelView:
    """Its state (`uploading`, `checking`, `ready` or `failed`), its files, and the error of a failed one."""
    upload = service.require(session, principal.tenant, model_id, service.MODEL)
    return ModelView.with_files(upload, service.files_of(session, model_id))


@router.get(
    "/{model_id}/parts",
    summary="List missing parts",
    responses=problem_responses(NOT_FOUND, "409 not_uploading", "503 store_unavailable"),
)
def list_model_parts(
    model_id: ModelId,
    principal: Submitter,
    session: ReadSessionDep,
    settings: SettingsDep,
    store: StoreDep,
    base_url: BaseUrlDep,
    limit: PartLimit = FIRST_PARTS,
) -> PartsView:
    """The missing parts of an interrupted upload, each with a fresh signed URL."""
    upload = service.require(session, principal.tenant, model_id, service.MODEL)
    files = service.files_of(session, model_id)
    session.commit()  # nothing; the store may be slow
    access = Access(store, base_url, settings.signed_url_seconds)
    return service.parts_of(upload, files, access, limit)


@router.post(
    "/{model_id}/complete",
    status_code=202,
    summary="Complete a model",
    responses=problem_responses(NOT_FOUND, "409 upload_incomplete", "409 not_uploading", "503 store_unavailable"),
)
def complete_model(
    model_id: ModelId, principal: Submitter, sessions: SessionFactoryDep, store: StoreDep
) -> ModelView:  # fmt: skip
    """Call it after sending all parts. The model is `checking` until a worker has verified and inspected it; then
    `ready` or `failed`. Repeating the call changes nothing."""
    with sessions() as session:
        upload = service.complete(session, store, principal.tenant, model_id, service.MODEL)
        return ModelView.with_files(upload, service.files_of(session, model_id))


@router.delete(
    "/{model_id}",
    status_code=204,
    summary="Delete a model",
    responses=problem_responses(NOT_FOUND, "409 model_in_use", "503 store_unavailable"),
)
def delete_model(model_id: ModelId, principal: Submitter, session: DeletingSessionDep, response: Response) -> None:
    """Deletes the files permanently, or abandons an unfinished upload. Refused while an unfinished job uses it. The
    header `X-Freed-Bytes` has its bytes."""
    freed = service.delete(session, principal.tenant, model_id, service.MODEL)
    response.headers["X-Freed-Bytes"] = str(freed)
    audit.record(session, principal, "model.delete", model_id)


def _refuse_too_large(size: int, settings: Settings) -> None:
    if size > settings.max_model_bytes:
        raise ModelTooLargeError(
            f"The model has {format_bytes(size)}; the limit of this installation is "
            f"{format_bytes(settings.max_model_bytes)}.",
            field="files",
            remedy="Choose a smaller model, or ask the operator for a higher limit.",
        )
