"""Requests about datasets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, ValidationError
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from app.audit import entries as audit
from app.datasets import service
from app.datasets.schemas import DatasetPage, DatasetView
from app.datasets.upload import declared_bytes, receive_upload, safe_filename, too_large, upload_directory
from app.dependencies import (
    BaseUrlDep,
    ClientWatch,
    DeletingSessionDep,
    InspectorDep,
    ReadSessionDep,
    SessionDep,
    SessionFactoryDep,
    SettingsDep,
    StoreDep,
)
from app.ids import is_id
from app.jobs.inspection import Asker
from app.keys.auth import Reader, Submitter
from app.keys.principal import Principal
from app.problems import Problem, problem_responses
from app.query_values import require_digits
from app.request_context import is_json
from app.settings import Settings
from app.storage.usage import require_storage
from app.uploads import service as uploads
from app.uploads.endpoints import FIRST_PARTS, PartLimit
from app.uploads.schemas import DatasetRequest, FileRequest, PartsView
from app.uploads.service import Access
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
    description="A file as the part `file` of a form, or as the bare body. "
    f"{FILE_REMEDY} It is read and checked before it is accepted. Except in `.txt`, a record has {ACCEPTED_COLUMNS}\n\n"
    "Or name the file with its bytes and SHA-256 as JSON: the response has signed URLs to PUT its parts to, straight "
    "to the store. Then `POST /datasets/{id}/complete`.",
    responses=problem_responses(
        "400 file_missing", "400 invalid_form", "400 invalid_json", "400 upload_broken_off", "403 forbidden",
        "403 storage_full", "413 dataset_too_large", "422 dataset_check_timeout", "422 dataset_invalid",
        "422 invalid_config", "429 too_many_uploads", "503 busy", "503 store_unavailable", "507 disk_full",
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _FORM},
                "application/octet-stream": {"schema": _FILE},
                "application/json": {"schema": DatasetRequest.model_json_schema()},
            },
        }
    },
)  # fmt: skip
async def upload_dataset(
    request: Request,
    response: Response,
    principal: Submitter,
    session: SessionDep,
    reading: ReadSessionDep,
    sessions: SessionFactoryDep,
    settings: SettingsDep,
    inspector: InspectorDep,
    store: StoreDep,
    base_url: BaseUrlDep,
    filename: Annotated[
        str, Query(max_length=1024, description="Name of the file, if it is sent as the bare body.")
    ] = "",
) -> DatasetView:
    if is_json(request):
        body = await _dataset_request(request)
        view = await run_in_threadpool(_begin, body, principal, sessions, settings, Access(
            store, base_url, settings.signed_url_seconds
        ))  # fmt: skip
        response.headers["Location"] = f"/datasets/{view.id}"
        return view
    await run_in_threadpool(_require_storage, reading, settings, principal, declared_bytes(request))
    with upload_directory(settings.data_dir) as directory:
        path = await receive_upload(request, directory, settings.max_dataset_bytes)
        await run_in_threadpool(_require_storage, reading, settings, principal, path.stat().st_size)
        asker = Asker(principal.tenant, ClientWatch(request).left)
        description = await run_in_threadpool(
            inspector.received_dataset, path, settings.source_policy, asker
        )  # fmt: skip
        row = await run_in_threadpool(
            service.create_dataset, session, store, settings, principal, path, description
        )  # fmt: skip
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
    """Its kind, records, size and SHA-256; the state of one that is not ready yet."""
    upload = uploads.find(session, principal.tenant, dataset_id, uploads.DATASET)
    if upload is not None:
        return DatasetView.of_upload(upload, uploads.files_of(session, dataset_id)[0])
    return DatasetView.model_validate(service.require_dataset(session, principal.tenant, dataset_id))


@router.get(
    "/{dataset_id}/parts",
    summary="List missing parts",
    responses=problem_responses(NOT_FOUND, "409 not_uploading", "503 store_unavailable"),
)
def list_dataset_parts(
    dataset_id: DatasetId,
    principal: Submitter,
    session: ReadSessionDep,
    settings: SettingsDep,
    store: StoreDep,
    base_url: BaseUrlDep,
    limit: PartLimit = FIRST_PARTS,
) -> PartsView:
    """The missing parts of an interrupted upload, each with a fresh signed URL."""
    upload = uploads.require(session, principal.tenant, dataset_id, uploads.DATASET)
    files = uploads.files_of(session, dataset_id)
    session.commit()  # nothing; the store may be slow
    return uploads.parts_of(upload, files, Access(store, base_url, settings.signed_url_seconds), limit)


@router.post(
    "/{dataset_id}/complete",
    status_code=202,
    summary="Complete a dataset",
    responses=problem_responses(NOT_FOUND, "409 upload_incomplete", "409 not_uploading", "503 store_unavailable"),
)
def complete_dataset(
    dataset_id: DatasetId, principal: Submitter, sessions: SessionFactoryDep, store: StoreDep
) -> DatasetView:  # fmt: skip
    """Call it after sending all parts. The dataset is `checking` until a worker has verified and read it; then `ready`
    or `failed`. Repeating the call changes nothing."""
    with sessions() as session:
        if row := service.find_dataset(session, principal.tenant, dataset_id):
            return DatasetView.model_validate(row)
        upload = uploads.complete(session, store, principal.tenant, dataset_id, uploads.DATASET)
        return DatasetView.of_upload(upload, uploads.files_of(session, dataset_id)[0])


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a dataset",
    responses=problem_responses(NOT_FOUND, "409 dataset_in_use", "503 store_unavailable"),
)
def delete_dataset(
    dataset_id: DatasetId, principal: Submitter, session: DeletingSessionDep, response: Response
) -> None:
    """Deletes the file permanently, or abandons an unfinished upload; refused while an unfinished job uses it. The
    header `X-Freed-Bytes` has its bytes."""
    if uploads.find(session, principal.tenant, dataset_id, uploads.DATASET) is not None:
        freed = uploads.delete(session, principal.tenant, dataset_id, uploads.DATASET)
    else:
        freed = service.delete_dataset(session, principal.tenant, dataset_id)
    response.headers["X-Freed-Bytes"] = str(freed)
    audit.record(session, principal, "dataset.delete", dataset_id)


def _require_storage(session: Session, settings: Settings, principal: Principal, size: int) -> None:
    require_storage(session, settings, principal.tenant, size)
    session.rollback()  # the body, or its check, takes its time


async def _dataset_request(request: Request) -> DatasetRequest:
    body = await request.body()
    try:
        return DatasetRequest.model_validate_json(body)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        if faults[0]["type"] == "json_invalid":
            raise Problem(
                400, "invalid_json", "The body is not valid JSON.", remedy="Send a JSON object in UTF-8."
            ) from error
        raise RequestValidationError(faults, body={}) from error


def _begin(
    body: DatasetRequest, principal: Principal, sessions: sessionmaker[Session], settings: Settings, access: Access
) -> DatasetView:
    if body.bytes > settings.max_dataset_bytes:
        raise too_large(settings.max_dataset_bytes)
    file = FileRequest(name=safe_filename(body.name), bytes=body.bytes, sha256=body.sha256)
    upload, files = uploads.begin(sessions, settings, access.store, principal, uploads.DATASET, file.name, [file])
    parts = uploads.parts_of(upload, files, access, FIRST_PARTS, new=True)
    return DatasetView.of_upload(upload, files[0], parts)
