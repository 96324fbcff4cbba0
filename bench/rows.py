"""The rows of the pruning benchmark, each on disk as soon as it exists."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from qpruner_core.prune.config import PruneConfig

Measures = dict[str, dict[str, float]]
"""Name of a text or task -> name of a measure -> value."""


class Row(BaseModel):
    """A pruned model and what it can still do; ``settings`` is ``None`` for the dense model.

    ``parameters``: of the whole model. ``removed``: fraction of the layers' parameters that is gone. ``score_seconds``:
    of measuring importance, ``cut_seconds``: of all the rest of pruning. ``peak_bytes``: anonymous memory above that
    of the process with the dense model loaded, the largest of samples while scoring and cutting.
    """

    recipe: str
    settings: PruneConfig | None
    ratio: float
    removed: float
    parameters: int
    score_seconds: float
    cut_seconds: float
    peak_bytes: int
    measures: Measures

    def is_of(self, recipe: str, settings: PruneConfig | None, ratio: float) -> bool:
        """Whether this row is the one of ``recipe`` with these very settings."""
        return (self.recipe, self.settings, self.ratio) == (recipe, settings, ratio)


class RowFile:
    """A JSON-lines file that grows by a row at a time; a line that was cut off when a run was ended does not count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = _read(path) if path.exists() else []

    def find(self, recipe: str, settings: PruneConfig | None, ratio: float) -> Row | None:
        """The row that was measured before, if it was."""
        return next((row for row in self.rows if row.is_of(recipe, settings, ratio)), None)

    def append(self, row: Row) -> None:
        """Keep ``row``, on disk before this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as stream:
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                if stream.read(1) != b"\n":
                    stream.write(b"\n")  # behind a line that was cut off
            stream.write(row.model_dump_json().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.rows.append(row)


def _read(path: Path) -> list[Row]:
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError:
            continue  # cut off, or of settings that no longer exist: measured again
    return rows
