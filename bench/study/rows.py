"""Rows of a study, each on disk as soon as it exists, so that a run that was ended goes on behind it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

AnyRow = TypeVar("AnyRow", bound=BaseModel)
Measures = dict[str, dict[str, float]]
"""Name of a text or task -> name of a measure -> value."""


class RowFolder:
    """A folder of rows, a JSON file each, named after the kind and the name of its row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, kind: type[AnyRow], name: str, **measured_with: object) -> AnyRow | None:
        """The row of that name, if it was measured before with these very settings, given by the row's own fields."""
        try:
            row = kind.model_validate_json(self._file(kind, name).read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None
        return row if all(getattr(row, field) == value for field, value in measured_with.items()) else None

    def has(self, kind: type[BaseModel], name: str) -> bool:
        """Whether there is a row of that name, of whatever settings."""
        return self._file(kind, name).is_file()

    def keep(self, name: str, row: BaseModel) -> None:
        """Put ``row`` on disk, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._file(type(row), name)
        partial = file.with_suffix(".part")
        partial.write_text(row.model_dump_json(indent=1) + "\n", encoding="utf-8")
        partial.replace(file)

    def take_over(self, name: str, row: BaseModel) -> None:
        """Keep ``row``, measured elsewhere, unless one of that name was measured here."""
        if not self.has(type(row), name):
            self.keep(name, row)

    def _file(self, kind: type[BaseModel], name: str) -> Path:
        return self._folder / f"{kind.__name__}-{re.sub(r'[^a-z0-9.]+', '-', name.lower())}.json"
