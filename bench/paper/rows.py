"""The raw figures of the benchmark; those of earlier releases have bits for names of precisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from bench.paper.amounts import Amounts
from bench.study.machine import Machine
from bench.study.memory import PhasePeak
from bench.study.rows import Measures
from qpruner_core.precision_names import precision_names


class TrialPoint(BaseModel):
    """A trial of a search: ``second``: of the search, scoring included, when it ended."""

    model_config = ConfigDict(populate_by_name=True)

    origin: str
    precisions: Annotated[tuple[str, ...], BeforeValidator(precision_names)] = Field(
        validation_alias=AliasChoices("precisions", "bits")
    )
    bytes: int
    loss: float
    stopped_early: bool
    second: float


class PaperRow(BaseModel):
    """A method at a ratio with a seed.

    ``config``: digest of its settings. ``ratio``: the one it stands at, ``removed``: share of the layers' parameters
    that is gone, ``budget``: bytes asked for; ``bytes``: of the loaded model, adapters included unless all modules are
    in 16 bits, when they can be merged. ``seconds``: of the stages; ``search_seconds``: of what it needs of score and
    of allocate. ``teacher``: whether it learned from the dense model. ``validation``: (step, held-back loss).
    ``window_losses``: of each text, by window, in nats a token.
    """

    model_config = ConfigDict(populate_by_name=True)

    method: str
    config: str
    ratio: float
    seed: int
    removed: float
    budget: int
    bytes: int
    groups: list[str] = []
    layers: list[int | None] = []
    group_bytes: list[int] = []
    precisions: Annotated[list[str], BeforeValidator(precision_names)] = Field(
        default=[], validation_alias=AliasChoices("precisions", "bits")
    )
    seconds: dict[str, float] = {}
    search_seconds: float = 0.0
    teacher: bool = False
    loss: str = ""
    validation: list[tuple[int, float]] = []
    trials: list[TrialPoint] = []
    window_losses: dict[str, list[float]] = {}
    measures: Measures = {}

    @property
    def name(self) -> str:
        """What tells it from other rows of the same run."""
        return f"{self.method}-{self.ratio}-{self.seed}"


class MemoryRow(BaseModel):
    """Peak memory of a few steps of recovery on a row's quantized modules, with its teacher if it has one: activations
    ``kept`` for the gradient, or ``recomputed`` (checkpointing)."""

    name: str
    config: str
    method: str
    ratio: float
    kept: PhasePeak
    recomputed: PhasePeak


class SearchRow(BaseModel):
    """A search on the model that ours pruned, within the same bytes. ``scoring``: seconds of what it needs of the score
    stage; ``seconds``: in all; ``quantizing``: those of it in which modules were quantized and read. ``best``: (index
    of the trial, perplexity before recovery) each time that the best so far changed. ``objective``: what its trials'
    losses are."""

    name: str
    config: str
    objective: str
    scoring: float
    seconds: float
    quantizing: float = 0.0
    trials: list[TrialPoint]
    best: list[tuple[int, float]]


class TuningRow(BaseModel):
    """The baseline's recovery with a learning rate: (step, held-back loss)."""

    name: str
    config: str
    learning_rate: float
    validation: list[tuple[int, float]]

    @property
    def lowest(self) -> float:
        """The least of the losses."""
        return min(loss for _, loss in self.validation)


class PaperReport(BaseModel):
    """``text_name``: what all methods learned from and were calibrated on. ``learning_rate``: of all recoveries.
    ``workers``: processes that measured beside each other. ``note``: what else must be known of how the rows came
    about."""

    model: str
    amounts: Amounts
    text_name: str
    learning_rate: float
    machine: Machine
    workers: int = 1
    dense: PaperRow
    rows: list[PaperRow]
    memory: list[MemoryRow] = []
    tuning: list[TuningRow] = []
    searches: list[SearchRow] = []
    note: str = ""


def of_method(rows: Sequence[PaperRow], method: str, ratio: float) -> list[PaperRow]:
    """The rows of ``method`` at ``ratio``, one a seed."""
    return [row for row in rows if (row.method, row.ratio) == (method, ratio)]


def memory_of(rows: Sequence[MemoryRow], method: str, ratio: float) -> MemoryRow | None:
    """The memory of ``method`` at ``ratio``, if it was measured."""
    return next((row for row in rows if (row.method, row.ratio) == (method, ratio)), None)
