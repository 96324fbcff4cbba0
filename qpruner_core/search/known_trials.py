"""Losses of allocations measured earlier, by this run or another, so that none is measured twice.

A loss depends on the scored model and on how it is measured, not on the budget or on how the search found the
allocation. The file is ``known_trials.jsonl`` in the directory of finished stages: one JSON object per line, appended
as trials finish, so that an interrupted search repeats none of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from qpruner_core.search.space import Allocation
from qpruner_core.stage_store import KNOWN_TRIALS as KNOWN_TRIALS
from qpruner_core.stage_store import StageStore
from qpruner_core.strict import StrictModel

if TYPE_CHECKING:
    from qpruner_core.config import CompressionConfig

SEARCH_ONLY = frozenset(
    {"search", "prior", "trials", "random_seeds", "candidates", "batch", "workers", "front_points", "finalists"}
)  # fmt: skip
"""Settings of the allocate stage that affect the choice or repetition of trials, but no loss of a trial."""


class KnownTrial(StrictModel):
    """A line of the file: the loss of an allocation on all of the text, and that on the screening text, if any; under
    the key of :func:`trial_key`."""

    key: str
    precisions: Allocation
    loss: float
    screening_loss: float | None = None


class KnownTrials:
    """The losses known under ``key``, in memory and in the file at ``path``."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._trials = {trial.precisions: trial for trial in _read(path) if trial.key == key}

    @classmethod
    def of(cls, store: StageStore, config: CompressionConfig) -> KnownTrials:
        """Known losses of the run of ``config`` with its finished stages in ``store``; its score stage must be
        finished."""
        return cls(store.root / KNOWN_TRIALS, trial_key(store.key("score"), config))

    def __len__(self) -> int:
        return len(self._trials)

    def find(self, allocation: Sequence[str]) -> KnownTrial | None:
        """The losses of an allocation, exactly as measured; ``None`` if unknown."""
        return self._trials.get(tuple(allocation))

    def remember(self, allocation: Sequence[str], loss: float, screening_loss: float | None = None) -> None:
        """Store the losses of an allocation that was measured in full, if they are finite."""
        if tuple(allocation) in self._trials or not all(map(math.isfinite, (loss, screening_loss or 0.0))):
            return
        trial = KnownTrial(key=self._key, precisions=tuple(allocation), loss=loss, screening_loss=screening_loss)
        with self._path.open("ab+") as stream:
            stream.write(_line_break(stream.tell(), self._path) + trial.model_dump_json().encode() + b"\n")
        self._trials[trial.precisions] = trial


def trial_key(score_key: str, config: CompressionConfig) -> str:
    """Digest of all inputs of an allocation's loss: the score stage and how losses are measured."""
    measured: list[object] = [score_key, config.quantize.double_quant, config.quantize.int8]
    measured.append(config.allocate.model_dump(mode="json", exclude=set(SEARCH_ONLY)))
    if getattr(config.allocate, "objective", "divergence") != "divergence":  # measured after a recovery
        measured += [config.quantize.model_dump(mode="json"), config.finetune.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> list[KnownTrial]:
    if not path.is_file():
        return []
    trials = []
    for line in path.read_bytes().splitlines():
        try:
            trials.append(KnownTrial.model_validate_json(line))
        except ValidationError:
            continue  # the last line of a killed process
    return trials


def _line_break(size: int, path: Path) -> bytes:
    """Terminate an incomplete last line of a killed process."""
    if size == 0:
        return b""
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return b"" if stream.read(1) == b"\n" else b"\n"
