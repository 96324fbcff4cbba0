"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from qpruner_client.models.base import Model


class JobErrorView(Model):
    """Reason of a failed job. `code` is stable."""

    code: str
    """Stable identifier of the error."""

    message: str
    """The error, in one sentence."""

    field: str | None = None
    """Dotted path of the invalid setting."""

    remedy: str = ""
    """Suggested remedy."""

    user: bool
    """Whether the request is at fault, and must be changed; otherwise the service is, and a retry may help."""


class PartView(Model):
    """A part that is missing. PUT exactly these bytes of the file to `url`, without an API key."""

    file: str
    """Name of the file."""

    number: int
    """Number of the part, from 1."""

    offset: int
    """Offset of the part in the file."""

    bytes: int
    """Size of the part in bytes."""

    url: str
    """Signed URL for the PUT; relative if the service does not know its own address."""


class PartsView(Model):
    """State of an upload: received and missing parts."""

    part_bytes: int
    """Bytes of each part but the last of a file."""

    uploaded_bytes: int
    """Bytes of the received parts."""

    missing_parts: int
    """Number of missing parts."""

    parts: list[PartView]
    """The first of the missing parts, each with a signed URL."""

    urls_expire_at: datetime
    """Expiry of the signed URLs; request the parts again then."""


class DatasetView(Model):
    """An uploaded dataset. Use its `id` as the `dataset` of a job once it is `ready`."""

    id: str
    """Id of the dataset."""

    filename: str
    """Name of the file, sanitised."""

    status: Literal["uploading", "checking", "ready", "failed"] | str = "ready"
    """`uploading`, `checking`, `ready` or `failed`."""

    kind: str | None
    """Kind of its records: `text`, `instruction`, `messages` or `choices`; null until it is ready."""

    records: int | None
    """Number of records; null until it is ready."""

    bytes: int
    """Size in bytes."""

    sha256: str
    """SHA-256 of the content, in hex."""

    created_at: datetime
    """Creation time."""

    expires_at: datetime | None = None
    """Deletion time unless it becomes ready; null once it is."""

    error: JobErrorView | None = None
    """Error of a failed upload; null otherwise."""

    upload: PartsView | None = None
    """The parts to send; only in the response to a POST that named a file."""


class DatasetPage(Model):
    """A page of datasets, newest first."""

    datasets: list[DatasetView]
    """The datasets."""

    next_cursor: str | None
    """Send it as `cursor` for older datasets; null on the last page."""
