"""Upload and download of the files of finished stages."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from app.jobs.models import StageResult
from qpruner_core.events import FileRecord
from qpruner_core.stage_store import STAGE_FILE, list_files

_LOG = logging.getLogger(__name__)
Transfer = Callable[[str, Path], None]
"""Puts or gets one object: its key, and the file."""


def upload_stage(directory: Path, paths: Iterable[str], prefix: str, put: Transfer) -> None:
    """Put every file of a finished stage into the store below ``prefix``, ``stage.json`` last."""
    for path in [*paths, STAGE_FILE]:
        put(prefix + path, directory / path)


def fetch_stage(result: StageResult, directory: Path, get: Transfer) -> bool:
    """Provide the files of a finished stage in ``directory``: those already there, else those of the store.

    Returns false, with nothing left in ``directory``, if the store no longer has them.
    """
    files = [FileRecord.model_validate(file) for file in result.files]
    if _is_whole(directory, files):
        return True
    partial = directory.with_name(f"{directory.name}.fetched")
    for folder in (directory, partial):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        for path in [*(file.path for file in files), STAGE_FILE]:
            target = partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            get(result.store_prefix + path, target)
        if not _is_whole(partial, files):
            raise FileNotFoundError("its files differ from the stored ones")
    except FileNotFoundError as error:
        _LOG.warning("%s: stage %s is no longer intact in the store: %s", result.job_id, result.stage, error)
        shutil.rmtree(partial, ignore_errors=True)
        return False
    partial.rename(directory)
    return True


def _is_whole(directory: Path, files: list[FileRecord]) -> bool:
    return (directory / STAGE_FILE).is_file() and list_files(directory) == files
