"""A search that is over, as it can be asked again: scores, trials and sizes, without a model and without torch.

It is kept in the summaries of the score and allocate stages, and so both in a run's directory and in the database.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, ValidationError

from qpruner_core.allocate.space import SearchSpace
from qpruner_core.errors import BudgetInfeasibleError, InvalidConfigError
from qpruner_core.score.scores import Scores
from qpruner_core.stage_store import STAGE_FILE, StageRecord
from qpruner_core.strict import StrictModel

if TYPE_CHECKING:
    from qpruner_core.allocate.memory_model import MemoryModel

_TINY = 1e-9
_ALLOCATION = "allocation.json"


class MeasuredTrial(StrictModel):
    """What is asked of a trial: see :class:`qpruner_core.allocate.trial.Trial`."""

    model_config = ConfigDict(extra="ignore")
    index: int
    origin: str
    bits: tuple[int, ...]
    bytes: int
    loss: float
    stopped_early: bool = False


class StoredSpace(StrictModel):
    """Names and layers of the groups, bytes of each at each of its options, and bytes of everything else."""

    groups: list[str]
    layers: list[int | None]
    group_bytes: list[dict[int, int]]
    fixed_bytes: int

    @classmethod
    def of(cls, memory: MemoryModel) -> StoredSpace:
        """The sizes that ``memory`` predicts."""
        sizes = [
            {bits: memory.group(index, bits) for bits in group.options} for index, group in enumerate(memory.groups)
        ]
        lowest = sum(size[bits] for size, bits in zip(sizes, memory.lowest, strict=True))
        return cls(
            groups=[group.name for group in memory.groups],
            layers=[group.layer for group in memory.groups],
            group_bytes=sizes,
            fixed_bytes=memory.total(memory.lowest) - lowest,
        )

    def within(self, budget: int) -> SearchSpace:
        """All allocations within ``budget`` bytes. Raises :class:`BudgetInfeasibleError`."""
        try:
            return SearchSpace(self.group_bytes, self.fixed_bytes, budget, self.layers)
        except BudgetInfeasibleError as error:
            error.field = "memory_budget"
            raise


class BudgetAnswer(StrictModel):
    """The best allocation known for a budget: bits of each of ``groups``, bytes of the loaded model with adapters, and
    its loss (nats per token before recovery), which was ``measured`` in a trial or is predicted from the scores."""

    memory_budget: int
    groups: list[str]
    bits: list[int]
    bytes: int
    loss: float
    measured: bool


class StoredSearch(StrictModel):
    """What a finished search leaves; of its trials, those that were measured in full."""

    scores: Scores
    space: StoredSpace
    trials: list[MeasuredTrial]

    @classmethod
    def read(cls, work_dir: Path) -> StoredSearch:
        """The search of the run whose finished stages are in ``work_dir``.

        Raises:
            InvalidConfigError: there is no finished search.
        """
        try:
            score, allocate = (_summary(work_dir / stage / STAGE_FILE) for stage in ("score", "allocate"))
            trials = (work_dir / "allocate" / _ALLOCATION).read_bytes()
            return cls.of_summaries(score, allocate, _Trials.model_validate_json(trials).trials)
        except (FileNotFoundError, NotADirectoryError, ValidationError, KeyError) as error:
            raise InvalidConfigError(
                f"{work_dir} holds no finished search.",
                field="--work-dir",
                remedy="Name the .work directory that `qpruner compress` left beside its output.",
            ) from error

    @classmethod
    def of_summaries(
        cls, score: dict[str, Any], allocate: dict[str, Any], trials: Sequence[MeasuredTrial]
    ) -> StoredSearch:
        """From the summaries of the two stages and the trials. Raises ``KeyError`` or ``ValidationError`` where they
        are of a release that kept less."""
        space = StoredSpace.model_validate(allocate["space"])
        whole = [trial for trial in trials if not trial.stopped_early]
        return cls(scores=Scores.model_validate(score), space=space, trials=whole)

    def front(self) -> list[MeasuredTrial]:
        """The trials that no other beats in both bytes and loss, by rising bytes."""
        front: list[MeasuredTrial] = []
        for trial in sorted(self.trials, key=lambda trial: (trial.bytes, trial.loss, trial.index)):
            if not front or trial.loss < front[-1].loss:
                front.append(trial)
        return front

    def answer(self, budget: int) -> BudgetAnswer:
        """The best allocation known for ``budget`` bytes: the best trial within them, or what the scores say is better.

        Scores take groups one by one, which the trials show to be wrong by a factor; its median is put right.

        Raises:
            BudgetInfeasibleError: with the fewest bits everywhere, the model takes more.
        """
        from qpruner_core.allocate.knapsack import solve  # SciPy takes a while, and few ask

        space = self.space.within(budget)
        bits = solve(space, self.scores.sensitivity)
        predicted = self.scores.additive_loss(bits) * self._correction()
        known = {trial.bits: trial.loss for trial in self.trials}
        fitting = [trial for trial in self.trials if space.fits(trial.bits)]
        best = min(fitting, key=lambda trial: (trial.loss, trial.bytes, trial.index), default=None)
        if best is not None and (bits in known or best.loss <= predicted):
            bits, predicted = best.bits, best.loss
        return BudgetAnswer(
            memory_budget=budget, groups=self.space.groups, bits=list(bits), bytes=space.total(bits), loss=predicted,
            measured=bits in known,
        )  # fmt: skip

    def _correction(self) -> float:
        """Median of measured over additive loss among the trials."""
        factors = [
            math.log((trial.loss + _TINY) / (self.scores.additive_loss(trial.bits) + _TINY)) for trial in self.trials
        ]
        return math.exp(statistics.median(factors)) if factors else 1.0


class _Trials(StrictModel):
    model_config = ConfigDict(extra="ignore")
    trials: list[MeasuredTrial]


def _summary(path: Path) -> dict[str, Any]:
    return StageRecord.model_validate_json(path.read_bytes()).summary
