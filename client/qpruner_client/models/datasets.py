"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime

from qpruner_client.models.base import Model


class DatasetView(Model):
    """An uploaded dataset. Name its `id` as the `dataset` of a job."""

    id: str
    """Id of the dataset."""

    filename: str
    """Name of the file, made safe."""

    kind: str
    """`text`, `instruction`, `messages` or `choices`: what its records are."""

    records: int
    """Records that were read."""

    bytes: int
    """Size in bytes."""

    sha256: str
    """SHA-256 of the content, in hex."""

    created_at: datetime
    """When it was made."""


class DatasetPage(Model):
    """A page of datasets, the newest first."""

    datasets: list[DatasetView]
    """The datasets."""

    next_cursor: str | None
    """Give it as `cursor` to see older datasets; null on the last page."""
