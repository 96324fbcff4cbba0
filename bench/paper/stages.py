"""Running the pipeline's stages up to the last one that a row needs; what an equal stage beside it left is taken over.

Of each stage it is also kept how long its parts took, because a method that needs only a part is charged only that.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from pydantic import ValidationError

from bench.study.stages import run_until
from qpruner_core.config import CompressionConfig
from qpruner_core.events import STAGES, Event, StageFinished, StageName, StageProgress, StageStarted
from qpruner_core.fitting.fit_files import DIRECTORY
from qpruner_core.models.shards import link_tree
from qpruner_core.search.allocation import ALLOCATION, AllocationResult
from qpruner_core.search.known_trials import KNOWN_TRIALS
from qpruner_core.stage_store import STAGE_FILE, StageRecord

_PARTS = "parts.json"


class StageRunner:
    """Runs below ``cell``, a folder a run; they share stages that follow from the same settings."""

    def __init__(self, cell: Path) -> None:
        self.cell = cell

    def run(self, name: str, config: CompressionConfig, last: StageName) -> FinishedStages:
        """The stages of ``config`` up to ``last``, in the folder ``name``; goes on where it was ended.

        Raises as :func:`qpruner_core.pipeline.compress` does.
        """
        work = self.cell / name
        self._share_fits(work)
        if not (work / "allocate" / STAGE_FILE).is_file():
            (work / KNOWN_TRIALS).unlink(missing_ok=True)  # or a search that was cut off would look too fast

        def find(stage: StageName, key: str) -> bool:
            return self._take_over(work, stage, key)

        listen = _Clock(work).listen
        run_until(last, config, work / "never-written", work_dir=work, on_event=listen, find_stage=find)
        return FinishedStages(work, last)

    def _share_fits(self, work: Path) -> None:
        """Fitted modules are kept under what they follow from; runs with the same settings read the same files."""
        shared = (self.cell / DIRECTORY).resolve()
        shared.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
        if not (work / DIRECTORY).exists():
            (work / DIRECTORY).symlink_to(shared, target_is_directory=True)

    def _take_over(self, work: Path, stage: StageName, key: str) -> bool:
        for other in sorted(self.cell.iterdir()):
            if other != work and _key(other / stage) == key:
                for folder in (Path(stage), Path("parts") / stage):
                    shutil.rmtree(work / folder, ignore_errors=True)
                    link_tree(other / folder, work / folder)
                return True
        return False


class FinishedStages:
    """What a run left in ``work``, up to the stage ``last``."""

    def __init__(self, work: Path, last: StageName) -> None:
        self.work = work
        done = STAGES[: STAGES.index(last) + 1]
        self.records = {
            stage: StageRecord.model_validate_json((work / stage / STAGE_FILE).read_bytes()) for stage in done
        }

    @property
    def allocation(self) -> AllocationResult:
        """What the allocate stage found."""
        return AllocationResult.model_validate_json((self.work / "allocate" / ALLOCATION).read_bytes())

    def seconds(self, stage: StageName) -> float:
        """Of the whole stage."""
        return self.records[stage].seconds

    def parts(self, stage: StageName, wanted: Sequence[str]) -> float:
        """Seconds of the ``wanted`` parts of ``stage``, by the messages that it told; of all of it if these are not
        known, because it was ended between its last file and theirs."""
        known = self._parts(stage)
        return sum(known.get(part, 0.0) for part in wanted) if known else self.seconds(stage)

    def ends(self, stage: StageName) -> dict[str, float]:
        """Second of ``stage`` at which each of its parts ended, in their order; empty if that is not known."""
        return dict(zip(self._parts(stage), accumulate(self._parts(stage).values()), strict=True))

    def _parts(self, stage: StageName) -> dict[str, float]:
        try:
            parts: dict[str, float] = json.loads((self.work / "parts" / stage / _PARTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return parts


class _Clock:
    """Adds up the seconds of what stages say they are at; on disk when the stage is finished."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._parts: dict[str, float] = {}
        self._last = time.perf_counter()

    def listen(self, event: Event) -> None:
        """Take note of any event."""
        if isinstance(event, StageStarted):
            self._parts, self._last = {}, time.perf_counter()
        elif isinstance(event, StageProgress):
            now = time.perf_counter()
            self._parts[event.message] = self._parts.get(event.message, 0.0) + now - self._last
            self._last = now
        elif isinstance(event, StageFinished) and not event.resumed:
            file = self._work / "parts" / event.stage / _PARTS
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(self._parts), encoding="utf-8")


def _key(stage: Path) -> str | None:
    try:
        return StageRecord.model_validate_json((stage / STAGE_FILE).read_bytes()).key
    except (OSError, ValidationError):
        return None
