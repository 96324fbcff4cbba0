"""Begins, completes, finds, lists and deletes uploads. The caller commits, unless noted otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.audit import entries as audit
from app.database import utc_now
from app.ids import is_id, new_id
from app.jobs import repository
from app.jobs.models import TERMINAL, Job
from app.keys.principal import Principal
from app.problems import Fault, Problem
from app.settings import Settings
from app.storage.obsolete import record_obsolete
from app.storage.usage import require_storage
from app.store import ArtifactStore
from app.uploads.models import Upload, UploadFile
from app.uploads.schemas import FileRequest, PartsView, PartView
from qpruner_core.sizes import format_bytes

MODEL = "md"
DATASET = "ds"
_MOST_PARTS = 10_000  # the limit of S3
_UNFINISHED = ("uploading", "checking")
_RETRY_SECONDS = 30


@dataclass(frozen=True)
class Access:
    """Location of an upload's parts, and the signer of their URLs."""

    store: ArtifactStore
    base_url: str
    seconds: int


def begin(
    sessions: sessionmaker[Session], settings: Settings, store: ArtifactStore, principal: Principal, kind: str,
    name: str, files: Sequence[FileRequest],
) -> tuple[Upload, list[UploadFile]]:  # fmt: skip
    """Register these files, and reserve their bytes. Commits.

    Raises:
        Problem: 403 ``storage_full``; 429 ``too_many_uploads``.
    """
    with sessions() as session:
        repository.lock_queue(session, principal.tenant)
        _require_room(session, settings, principal.tenant)
        require_storage(session, settings, principal.tenant, sum(file.bytes for file in files))
        upload, rows = _new_upload(settings, principal.tenant, kind, name, files)
        session.add(upload)
        session.flush()
        session.add_all(rows)
        audit.record(session, principal, "model.upload" if kind == MODEL else "dataset.upload", upload.id)
        session.commit()
        try:  # outside a transaction: the store may be slow
            tokens = [store.begin_upload(row.key, parts=part_count(upload, row)) for row in rows]
            for row, token in zip(rows, tokens, strict=True):
                row.token = token
            session.commit()
        except BaseException:  # nobody knows of it, so nobody else would delete it
            session.rollback()
            session.delete(upload)
            session.commit()
            raise
    return upload, rows


def _new_upload(
    settings: Settings, tenant: str, kind: str, name: str, files: Sequence[FileRequest]
) -> tuple[Upload, list[UploadFile]]:
    now = utc_now()
    largest = max(file.bytes for file in files)
    upload = Upload(
        id=new_id(kind), tenant=tenant, name=name, status="uploading", bytes=sum(file.bytes for file in files),
        part_bytes=max(settings.upload_part_bytes, -(-largest // _MOST_PARTS)), attempts=0,
        created_at=now, used_at=now, expires_at=now + timedelta(seconds=settings.upload_lifetime),
    )  # fmt: skip
    rows = [
        UploadFile(
            upload_id=upload.id, position=position, name=file.name, key=f"{prefix_of(upload.id)}{file.name}",
            bytes=file.bytes, sha256=file.sha256, token="",
        )
        for position, file in enumerate(files)
    ]  # fmt: skip
    return upload, rows


def prefix_of(upload_id: str) -> str:
    """Place of an upload's files in the store."""
    return f"{'datasets' if upload_id.startswith(DATASET) else 'models'}/{upload_id}/"


def part_count(upload: Upload, file: UploadFile) -> int:
    """Number of parts of a file."""
    return -(-file.bytes // upload.part_bytes)


def part_size(upload: Upload, file: UploadFile, number: int) -> int:
    """Bytes of a part; 0 if the file has no such part."""
    if not 1 <= number <= part_count(upload, file):
        return 0
    return min(upload.part_bytes, file.bytes - (number - 1) * upload.part_bytes)


def missing_parts(
    upload: Upload, files: Sequence[UploadFile], present: Callable[[UploadFile], dict[int, int]]
) -> list[tuple[UploadFile, int]]:
    """The missing parts, and those with another size: file and number, in order."""
    missing = []
    for file in files:
        there = present(file)
        for number in range(1, part_count(upload, file) + 1):
            if there.get(number) != part_size(upload, file, number):
                missing.append((file, number))
    return missing


def parts_of(
    upload: Upload, files: Sequence[UploadFile], access: Access, limit: int, *, new: bool = False
) -> PartsView:
    """Received and missing parts, with signed URLs. ``new``: nothing has been received yet.

    Raises:
        Problem: 409 ``not_uploading``.
    """
    if upload.status != "uploading":
        raise Problem(
            409, "not_uploading", f"The upload is {upload.status}.",
            remedy="Begin another upload to send other files." if upload.status == "failed" else "Send no more parts.",
        )  # fmt: skip
    store = access.store
    missing = missing_parts(upload, files, lambda file: {} if new else store.uploaded_parts(file.key, file.token))
    expires = utc_now() + timedelta(seconds=access.seconds)
    return PartsView(
        part_bytes=upload.part_bytes,
        uploaded_bytes=upload.bytes - sum(part_size(upload, file, number) for file, number in missing),
        missing_parts=len(missing),
        parts=[_part_view(upload, file, number, access) for file, number in missing[:limit]],
        urls_expire_at=expires,
    )


def complete(session: Session, store: ArtifactStore, tenant: str, upload_id: str, kind: str) -> Upload:
    """Hand the upload to a worker for checking; repeating it changes nothing. Commits.

    Raises:
        Problem: 404; 409 ``upload_incomplete`` with the files at fault, ``not_uploading`` if it failed.
    """
    upload = require(session, tenant, upload_id, kind)
    files = files_of(session, upload_id)
    session.commit()  # nothing yet; the store may be slow, and on SQLite every writer would wait for it
    if upload.status == "failed":
        raise Problem(409, "not_uploading", "The upload has failed.", remedy="Begin another upload.")
    if upload.status != "uploading":
        return upload
    _refuse_incomplete(upload, files, store)
    mine = (Upload.id == upload_id, Upload.status == "uploading")
    checking = {"status": "checking", "attempts": 0, "lease_expires_at": None, "used_at": utc_now()}
    session.execute(update(Upload).where(*mine).values(**checking))
    session.commit()
    return require(session, tenant, upload_id, kind)


def require(session: Session, tenant: str, upload_id: str, kind: str, *, hold: bool = False) -> Upload:
    """The tenant's upload of that ``kind``, :data:`MODEL` or :data:`DATASET`; with ``hold`` it cannot change in the
    transaction. Raises a 404 problem, also for an id of the other kind."""
    upload = find(session, tenant, upload_id, kind, hold=hold)
    if upload is None:
        raise not_found(upload_id, kind)
    return upload


def find(session: Session, tenant: str, upload_id: str, kind: str, *, hold: bool = False) -> Upload | None:
    """:func:`require` that returns ``None`` if there is none."""
    if not is_id(upload_id, kind):
        return None
    query = select(Upload).where(Upload.id == upload_id, Upload.tenant == tenant)
    query = query.execution_options(populate_existing=True)
    return session.scalar(query.with_for_update() if hold else query)


def files_of(session: Session, upload_id: str) -> list[UploadFile]:
    """The files of an upload, in the order of the request."""
    query = select(UploadFile).where(UploadFile.upload_id == upload_id).order_by(UploadFile.position)
    return list(session.scalars(query))


def list_models(session: Session, tenant: str, *, before: str | None, limit: int) -> Sequence[Upload]:
    """The tenant's models, newest first, starting after the id ``before``."""
    query: Select[Upload] = select(Upload).where(Upload.tenant == tenant, Upload.id.startswith(f"{MODEL}_"))
    if before is not None:
        query = query.where(Upload.id < before)
    return session.scalars(query.order_by(Upload.id.desc()).limit(limit)).all()


def delete(session: Session, tenant: str, upload_id: str, kind: str) -> int:
    """Delete rows and, after the commit, files; returns the freed bytes.

    ``session``: one of :func:`app.storage.obsolete.deleting`.

    Raises:
        Problem: 404; 409 ``model_in_use`` while an unfinished job of the tenant names it.
    """
    upload = require(session, tenant, upload_id, kind, hold=True)
    users = select(Job.id).where(Job.tenant == tenant, Job.model == upload_id, Job.status.not_in(TERMINAL))
    job_id = session.scalar(users.limit(1))
    if job_id is not None:
        raise Problem(
            409, "model_in_use", f"The unfinished job {job_id} uses it.",
            remedy=f"Wait for the job, or cancel it: POST /jobs/{job_id}/cancel.", extra={"job_id": job_id},
        )  # fmt: skip
    freed = 0 if upload.status == "failed" else upload.bytes
    session.delete(upload)
    record_obsolete(session, prefix_of(upload_id))
    return freed


def not_found(upload_id: str, kind: str) -> Problem:
    """The 404 of an upload that does not exist, belongs to another tenant, or is of another kind."""
    if kind == DATASET:
        return Problem(404, "dataset_not_found", f"There is no dataset {upload_id!r}.", remedy="See GET /datasets.")
    return Problem(404, "model_not_found", f"There is no model {upload_id!r}.", remedy="See GET /models.")


def not_ready(upload: Upload, field: str) -> Problem:
    """The 409 of a job that names an upload that is not ready."""
    remedy = {
        "uploading": "Send all its parts, then complete it.",
        "checking": "A worker is checking it; retry shortly.",
    }.get(upload.status, "See its error, and upload it again.")
    return Problem(409, "upload_not_ready", f"The upload {upload.id} is {upload.status}.", field=field, remedy=remedy)


def _require_room(session: Session, settings: Settings, tenant: str) -> None:
    unfinished = select(func.count()).where(Upload.tenant == tenant, Upload.status.in_(_UNFINISHED))
    if (session.scalar(unfinished) or 0) >= settings.max_unfinished_uploads:
        raise Problem(
            429, "too_many_uploads",
            f"{settings.max_unfinished_uploads} of your uploads are unfinished, which is the limit.",
            remedy="Complete or delete one.", headers={"Retry-After": str(_RETRY_SECONDS)},
        )  # fmt: skip


def _part_view(upload: Upload, file: UploadFile, number: int, access: Access) -> PartView:
    size = part_size(upload, file, number)
    url = access.store.part_url(
        file.key, file.token, number, size=size, expires_in=access.seconds, base_url=access.base_url
    )
    offset = (number - 1) * upload.part_bytes
    return PartView(file=file.name, number=number, offset=offset, bytes=size, url=url)


def _refuse_incomplete(upload: Upload, files: Sequence[UploadFile], store: ArtifactStore) -> None:
    missing = missing_parts(upload, files, lambda file: store.uploaded_parts(file.key, file.token))
    if not missing:
        return
    lacking: dict[int, list[int]] = {}
    for file, number in missing:
        lacking.setdefault(file.position, []).append(number)
    size = sum(part_size(upload, file, number) for file, number in missing)
    raise Problem(
        409, "upload_incomplete",
        f"{len(missing)} parts with {format_bytes(size)} are missing or have another size.",
        field=f"files.{next(iter(lacking))}",
        remedy=f"GET /{prefix_of(upload.id)}parts lists them, with signed URLs; PUT them, then complete it again.",
        errors=[
            Fault(field=f"files.{position}", detail=f"{files[position].name!r} lacks {len(numbers)} parts.")
            for position, numbers in lacking.items()
        ],
    )  # fmt: skip
