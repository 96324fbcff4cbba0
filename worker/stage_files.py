"""The files of finished stages, on their way to the store and back."""

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
    """Have the files of a finished stage in ``directory``: those that lie there, else those of the store.

    False, with nothing left in ``directory``, if the store has them no more.
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
            raise FileNotFoundError("its files are not what was stored")
    except FileNotFoundError as error:
        _LOG.warning("%s: stage %s is not in the store as it was: %s", result.job_id, result.stage, error)
        shutil.rmtree(partial, ignore_errors=True)
        return False
    partial.rename(directory)
    return True


def _is_whole(directory: Path, files: list[FileRecord]) -> bool:
    return (directory / STAGE_FILE).is_file() and list_files(directory) == files
