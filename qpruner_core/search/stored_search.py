"""A finished search, queryable for other budgets: scores, trials and sizes, without a model and without torch.

It is stored in the summaries of the score and allocate stages, both in a run's directory and in the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, ConfigDict, ValidationError

from qpruner_core.allocate.config import ObjectiveName
from qpruner_core.errors import BudgetInfeasibleError, InvalidConfigError
from qpruner_core.precision_names import precision_names
from qpruner_core.search.scores import Scores
from qpruner_core.search.space import SearchSpace
from qpruner_core.search.trial import MeasuredTrial, Trial, pareto_front
from qpruner_core.stage_store import STAGE_FILE, StageRecord
from qpruner_core.strict import StrictModel

if TYPE_CHECKING:
    from qpruner_core.mixed.memory_model import MemoryModel

_ALLOCATION = "allocation.json"


class StoredSpace(StrictModel):
    """Names and layers of the groups, bytes of each at each of its options, and bytes of everything else."""

    groups: list[str]
    layers: list[int | None]
    group_bytes: Annotated[list[dict[str, int]], BeforeValidator(precision_names)]
    fixed_bytes: int

    @classmethod
    def of(cls, memory: MemoryModel) -> StoredSpace:
        """The sizes that ``memory`` predicts."""
        return cls(
            groups=[group.name for group in memory.groups],
            layers=[group.layer for group in memory.groups],
            group_bytes=memory.group_bytes,
            fixed_bytes=memory.fixed_bytes,
        )

    def within(self, budget: int) -> SearchSpace:
        """All allocations within ``budget`` bytes. Raises :class:`BudgetInfeasibleError`."""
        try:
            return SearchSpace(self.group_bytes, self.fixed_bytes, budget, self.layers)
        except BudgetInfeasibleError as error:
            error.field = "memory_budget"
            # the run's precisions are those around its own budget, not all of the target
            error.remedy = (
                f"Use at least {error.smallest_feasible_bytes} bytes, or compress again for this budget: this "
                "search only had precisions around its own."
            )
            raise


class BudgetAnswer(StrictModel):
    """The best known allocation for a budget.

    The precision of each of ``groups``, bytes of the loaded model with adapters, and its loss (nats per token), which
    was ``measured`` in a trial or is predicted from the scores and the trials.
    """

    memory_budget: int
    groups: list[str]
    precisions: list[str]
    bytes: int
    loss: float
    measured: bool


class StoredSearch(StrictModel):
    """A finished search, including trials that were stopped early. Their losses are of ``objective``."""

    scores: Scores
    space: StoredSpace
    trials: list[MeasuredTrial]
    objective: ObjectiveName = "divergence"

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
        """From the summaries of the two stages and the trials. Raises ``KeyError`` or ``ValidationError`` for a release
        that stored less."""
        return cls(
            scores=Scores.model_validate(score),
            space=StoredSpace.model_validate(allocate["space"]),
            trials=list(trials),
            objective=allocate.get("objective", "divergence"),
        )

    def front(self) -> list[MeasuredTrial]:
        """The non-dominated trials in bytes and loss, by ascending bytes."""
        return pareto_front(self.trials)

    def answer(self, budget: int) -> BudgetAnswer:
        """The best allocation known for ``budget`` bytes; see :func:`qpruner_core.search.answer.answer`.

        Raises:
            BudgetInfeasibleError: the model exceeds it at the smallest precisions.
        """
        from qpruner_core.search.answer import answer  # SciPy takes a while to import

        space = self.space.within(budget)
        allocation, loss = answer(self.scores, self.trials, space, self.objective)
        return BudgetAnswer(
            memory_budget=budget,
            groups=self.space.groups,
            precisions=list(allocation),
            bytes=space.total(allocation),
            loss=loss,
            measured=any(trial.precisions == allocation and not trial.stopped_early for trial in self.trials),
        )


class _Trials(StrictModel):
    model_config = ConfigDict(extra="ignore")
    trials: list[Trial]


def _summary(path: Path) -> dict[str, Any]:
    return StageRecord.model_validate_json(path.read_bytes()).summary
