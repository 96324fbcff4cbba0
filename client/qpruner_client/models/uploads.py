"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from qpruner_client.models.base import Model
from qpruner_client.models.datasets import JobErrorView, PartsView


class FileView(Model):
    """A file of a model."""

    name: str
    """Name of the file."""

    bytes: int
    """Size in bytes."""

    sha256: str
    """SHA-256 of the content, in hex."""


class ModelSummary(Model):
    """An uploaded model. Use its `id` as the `model` of a job once it is `ready`."""

    id: str
    """Id of the model."""

    name: str
    """Name of the model."""

    status: Literal["uploading", "checking", "ready", "failed"] | str
    """State of the model."""

    bytes: int
    """Bytes of all its files."""

    model_type: str | None
    """Architecture, such as `llama`; null until it is ready."""

    created_at: datetime
    """Start of its upload."""

    used_at: datetime
    """Last use by a job."""

    expires_at: datetime | None
    """Deletion time unless it becomes ready; null once it is."""

    error: JobErrorView | None
    """Error of a failed upload; null otherwise."""


class ModelPage(Model):
    """A page of models, newest first."""

    models: list[ModelSummary]
    """The models."""

    next_cursor: str | None
    """Send it as `cursor` for older models; null on the last page."""


class ModelView(Model):
    """An uploaded model with its files."""

    id: str
    """Id of the model."""

    name: str
    """Name of the model."""

    status: Literal["uploading", "checking", "ready", "failed"] | str
    """State of the model."""

    bytes: int
    """Bytes of all its files."""

    model_type: str | None
    """Architecture, such as `llama`; null until it is ready."""

    created_at: datetime
    """Start of its upload."""

    used_at: datetime
    """Last use by a job."""

    expires_at: datetime | None
    """Deletion time unless it becomes ready; null once it is."""

    error: JobErrorView | None
    """Error of a failed upload; null otherwise."""

    files: list[FileView]
    """The files."""

    weight_bytes: int | None
    """Bytes of the weights as stored; null until it is ready."""

    upload: PartsView | None = None
    """The parts to send; only in the response to POST."""
