"""The rows of the comparison with peers, each in a file of its own as soon as it exists."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ValidationError

from bench.rows import Measures


class PeerRow(BaseModel):
    """A quantized model and what it can do.

    ``tool``: of PyPI with its version, or ours. ``bytes``: of the loaded model, adapters included; ``allowed``: those
    it was asked for, of the row named ``against``. ``mean_bits``: of a weight of the layers, without constants.
    ``seconds``: from the dense checkpoint to the quantized one; ours counts scores that rows share in each of them.
    ``failure``: why there are no measures.
    """

    name: str
    tool: str
    settings: dict[str, str | int | float]
    bytes: int = 0
    allowed: int | None = None
    against: str | None = None
    mean_bits: float = 16.0
    seconds: float = 0.0
    counted: str = "storages of the loaded model"
    measures: Measures = {}
    failure: str = ""


class PeerRows:
    """A folder of rows, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str, tool: str, settings: dict[str, str | int | float]) -> PeerRow | None:
        """The row that was measured before with these very settings, if it was."""
        try:
            row = PeerRow.model_validate_json(self._file(name).read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None
        return row if (row.name, row.tool, row.settings) == (name, tool, settings) else None

    def keep(self, row: PeerRow) -> None:
        """Put ``row`` on disk, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._file(row.name).with_suffix(".part")
        partial.write_text(row.model_dump_json(indent=1) + "\n", encoding="utf-8")
        partial.replace(self._file(row.name))

    def take_over(self, row: PeerRow) -> None:
        """Keep ``row``, measured elsewhere, unless one of that name was measured here."""
        if not self._file(row.name).exists():
            self.keep(row)

    def _file(self, name: str) -> Path:
        return self._folder / (re.sub(r"[^a-z0-9.]+", "-", name.lower()) + ".json")
