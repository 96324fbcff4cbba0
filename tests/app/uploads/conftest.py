"""A model to upload, and a worker's checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.uploading import PART_BYTES, checks_of, contents_of, inspect_each_content_once
from worker.upload_checks import UploadChecks


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Small parts, so that a file has several."""
    return settings.model_copy(update={"upload_part_bytes": PART_BYTES})


@pytest.fixture
def contents(sources: Path) -> dict[str, bytes]:
    """The files of a model that can be compressed."""
    return contents_of(sources / "model")


@pytest.fixture(autouse=True)
def each_content_inspected_once(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """See :func:`tests.uploading.inspect_each_content_once`."""
    inspect_each_content_once(monkeypatch, tmp_path_factory)


@pytest.fixture
def checks(application: FastAPI, settings: Settings) -> UploadChecks:
    """What a worker does with uploads, one at a time."""
    return checks_of(application, settings)
