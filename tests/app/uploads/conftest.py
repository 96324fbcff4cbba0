"""A model to upload, and a worker's checks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.uploading import PART_BYTES, checks_of, contents_of
from worker import upload_checks
from worker.check_child import CheckRequest, CheckResult
from worker.check_process import look_at
from worker.upload_checks import UploadChecks

_RESULTS: dict[tuple[str, str, str], CheckResult] = {}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Small parts, so that a file has several."""
    return settings.model_copy(update={"upload_part_bytes": PART_BYTES})


@pytest.fixture
def contents(sources: Path) -> dict[str, bytes]:
    """The files of a model that can be compressed."""
    return contents_of(sources / "model")


@pytest.fixture(autouse=True)
def each_content_inspected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that inspects an upload imports for seconds: its result is kept for the next upload of the same
    content."""

    def look_once(
        request: CheckRequest, upload_id: str, settings: Settings, check_stop: Callable[[], None]
    ) -> CheckResult:
        key = (request.kind, request.name, _digest(request.path))
        if key not in _RESULTS:
            _RESULTS[key] = look_at(request, upload_id, settings, check_stop)
        return _RESULTS[key]

    monkeypatch.setattr(upload_checks, "look_at", look_once)


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return hashlib.sha256(b"".join(file.name.encode() + file.read_bytes() for file in files)).hexdigest()


@pytest.fixture
def checks(application: FastAPI, settings: Settings) -> UploadChecks:
    """What a worker does with uploads, one at a time."""
    return checks_of(application, settings)
