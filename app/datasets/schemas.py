"""Responses of requests about datasets."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from app.jobs.schemas import JobErrorView
from app.uploads.models import Upload, UploadFile, UploadStatus
from app.uploads.schemas import PartsView


class DatasetView(BaseModel):
    """An uploaded dataset. Use its `id` as the `dataset` of a job once it is `ready`."""

    model_config = ConfigDict(from_attributes=True)
    id: str = Field(examples=["ds_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    filename: str
    status: UploadStatus = Field(
        default="ready", description="`uploading`, `checking`, `ready` or `failed`.", examples=["ready"]
    )
    kind: str | None = Field(
        description="Kind of its records: `text`, `instruction`, `messages` or `choices`; null until it is ready."
    )
    records: int | None = Field(description="Number of records; null until it is ready.")
    bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = Field(
        default=None, description="Deletion time unless it becomes ready; null once it is."
    )
    error: JobErrorView | None = Field(default=None, description="Error of a failed upload; null otherwise.")
    upload: PartsView | None = Field(
        default=None, description="The parts to send; only in the response to a POST that named a file."
    )

    @classmethod
    def of_upload(cls, upload: Upload, file: UploadFile, parts: PartsView | None = None) -> DatasetView:
        """The view of a dataset that is not ready."""
        return cls(
            id=upload.id, filename=file.name, status=upload.status, kind=None, records=None, bytes=file.bytes,
            sha256=file.sha256, created_at=upload.created_at, expires_at=upload.expires_at, upload=parts,
            error=None if upload.error is None else JobErrorView.model_validate(upload.error),
        )  # fmt: skip


class DatasetPage(BaseModel):
    """A page of datasets, newest first."""

    datasets: list[DatasetView]
    next_cursor: str | None = Field(description="Send it as `cursor` for older datasets; null on the last page.")
