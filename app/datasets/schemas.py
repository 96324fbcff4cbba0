"""Responses of requests about datasets."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class DatasetView(BaseModel):
    """An uploaded dataset. Use its `id` as the `dataset` of a job."""

    model_config = ConfigDict(from_attributes=True)
    id: str = Field(examples=["ds_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    filename: str
    kind: str = Field(description="Kind of its records: `text`, `instruction`, `messages` or `choices`.")
    records: int
    bytes: int
    sha256: str
    created_at: datetime


class DatasetPage(BaseModel):
    """A page of datasets, newest first."""

    datasets: list[DatasetView]
    next_cursor: str | None = Field(description="Send it as `cursor` for older datasets; null on the last page.")
