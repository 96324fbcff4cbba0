"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import datetime

from qpruner_client.models.base import Model


class DatasetView(Model):
    """An uploaded dataset. Name its `id` as the `dataset` of a job."""

    id: str
    filename: str
    kind: str
    """`text`, `instruction`, `messages` or `choices`: what its records are."""

    records: int
    bytes: int
    sha256: str
    created_at: datetime


class DatasetPage(Model):
    """A page of datasets, the newest first."""

    datasets: list[DatasetView]
    next_cursor: str | None
    """Give it as `cursor` to see older datasets; null on the last page."""
