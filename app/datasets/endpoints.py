"""Requests about datasets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool

from app.audit import entries as audit
from app.datasets import service
from app.datasets.schemas import DatasetPage, DatasetView
from app.datasets.upload import receive_upload, upload_directory
from app.dependencies import ReadSessionDep, SessionDep, SettingsDep, StoreDep
from app.ids import is_id
from app.keys.auth import Reader, Submitter
from app.problems import Problem, problem_responses
from app.query_values import require_digits
from app.storage.usage import require_storage
from qpruner_core.dataset_forms import ACCEPTED_COLUMNS, FILE_REMEDY

NOT_FOUND = "404 dataset_not_found"

router = APIRouter(
    prefix="/datasets", tags=["datasets"], responses=problem_responses("401 unauthenticated", "403 forbidden")
)

DatasetId = Annotated[str, Path(examples=["ds_01k9t4ae5xfz3v2s6q0m8y1d7c"])]
_FILE = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": _FILE}}


@router.post(
    "",
    status_code=201,
    summary="Upload a dataset",
    description=(
        f"A file as the part `file` of a form, or as the bare body. {FILE_REMEDY} It is read and checked "
        f"before it is accepted. Except in `.txt`, a record has {ACCEPTED_COLUMNS}"
    ),
    responses=problem_responses(
        "400 file_missing", "400 invalid_form", "403 storage_full",
        "413 dataset_too_large", "422 dataset_invalid", "503 store_unavailable",
        "507 disk_full",
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": _FORM}, "application/octet-stream": {"schema": _FILE}},
        }
    },
)  # fmt: skip
async def upload_dataset(
    request: Request,
    response: Response,
    principal: Submitter,
    session: SessionDep,
    settings: SettingsDep,
    store: StoreDep,
    filename: Annotated[
        str, Query(max_length=1024, description=("Name of the file, if it is sent as the bare body."))
    ] = "",
) -> DatasetView:
    with upload_directory(settings.data_dir) as directory:
        path = await receive_upload(request, directory, settings.max_dataset_bytes)
        await run_in_threadpool(require_storage, session, settings, principal.tenant, path.stat().st_size)
        await run_in_threadpool(session.rollback)
        row = await run_in_threadpool(service.create_dataset, session, store, settings.source_policy, principal, path)
    response.headers["Location"] = f"/datasets/{row.id}"
    return DatasetView.model_validate(row)


@router.get("", summary="List datasets", responses=problem_responses("422 invalid_cursor"))
def list_datasets(
    principal: Reader,
    session: ReadSessionDep,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page.")] = None,
    limit: Annotated[int, BeforeValidator(require_digits), Query(ge=1, le=100)] = 20,
) -> DatasetPage:
    """Newest first."""
    if cursor is not None and not is_id(cursor, "ds"):
        raise Problem(
            422,
            "invalid_cursor",
            "The cursor does not come from a page of datasets.",
            field="cursor",
            remedy="Use next_cursor of the previous page, or none for the first page.",
        )
    rows = service.list_datasets(session, principal.tenant, before=cursor, limit=limit + 1)
    return DatasetPage(
        datasets=[DatasetView.model_validate(row) for row in rows[:limit]],
        next_cursor=rows[limit - 1].id if len(rows) > limit else None,
    )


@router.get("/{dataset_id}", summary="See a dataset", responses=problem_responses(NOT_FOUND))
def get_dataset(dataset_id: DatasetId, principal: Reader, session: ReadSessionDep) -> DatasetView:
    """Its kind, records, size and SHA-256."""
    return DatasetView.model_validate(service.require_dataset(session, principal.tenant, dataset_id))


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a dataset",
    responses=problem_responses(NOT_FOUND, "409 dataset_in_use", "503 store_unavailable"),
)
def delete_dataset(
    dataset_id: DatasetId, principal: Submitter, session: SessionDep, store: StoreDep, response: Response
) -> None:
    """Deletes the file permanently; refused while an unfinished job uses it. The header `X-Freed-Bytes` has its
    bytes."""
    freed = service.delete_dataset(session, store, principal.tenant, dataset_id)
    response.headers["X-Freed-Bytes"] = str(freed)
    audit.record(session, principal, "dataset.delete", dataset_id)
