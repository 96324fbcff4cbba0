"""Outcomes of an inspected upload. The caller holds its row, and commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.database import utc_now
from app.datasets.models import Dataset
from app.uploads.models import Upload, UploadFile
from app.uploads.service import DATASET
from worker.protocol import RunError

_PAUSE = timedelta(seconds=15)


def accept(session: Session, upload: Upload, files: Sequence[UploadFile], found: dict[str, Any]) -> None:
    """The upload is ready: a model from now on; a dataset moves to the table of datasets."""
    if upload.id.startswith(DATASET):
        file = files[0]
        session.add(
            Dataset(
                id=upload.id, tenant=upload.tenant, filename=file.name, key=file.key, bytes=file.bytes,
                sha256=file.sha256, created_at=upload.created_at, **found,
            )
        )  # fmt: skip
        session.delete(upload)
        return
    upload.status, upload.facts, upload.expires_at = "ready", found, None
    upload.used_at = utc_now()
    upload.lease_token = upload.lease_expires_at = None


def refuse(upload: Upload, error: RunError, seconds: int) -> None:
    """The upload has failed; its error is kept for so many ``seconds``."""
    upload.status = "failed"
    upload.error = error.model_dump(exclude={"type"})
    upload.expires_at = utc_now() + timedelta(seconds=seconds)
    upload.lease_token = upload.lease_expires_at = None


def postpone(upload: Upload, *, counted: bool) -> None:
    """The upload is inspected again later; ``counted``: as another attempt."""
    upload.attempts -= 0 if counted else 1
    upload.lease_token, upload.lease_expires_at = None, utc_now() + _PAUSE
