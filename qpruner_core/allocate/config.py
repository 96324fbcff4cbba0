"""Settings of the allocate stage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from qpruner_core.bounds import MOST_CANDIDATES, MOST_SEQUENCES
from qpruner_core.precision_names import BITS_PER_WEIGHT, precision_names, size_order
from qpruner_core.strict import StrictModel

Objective = Literal["divergence", "recovered"]
"""What a trial's loss is."""


class AllocateConfig(StrictModel):
    """The search for the precision of every group of modules."""

    search: Literal["bayesian", "random", "knapsack", "mutual_information", "uniform"] = Field(
        default="bayesian",
        description="How precisions are chosen: by Bayesian optimisation, or without one: at random, by the exact "
        "knapsack over the scores, by mutual information, or the same for all. The last three try one allocation.",
    )
    prior: Literal["additive", "none"] = Field(
        default="additive",
        description="What Bayesian optimisation knows before its first trial: what each precision costs by the scores "
        "(additive), or nothing, as in the paper (none).",
    )
    objective: Objective = Field(
        default="divergence",
        description="What a trial is judged by: how far its predictions are from the pruned model's, before recovery "
        "(divergence), or its loss after a brief recovery, as in the paper (recovered; slow, and with prior none).",
    )
    recovery_steps: int = Field(default=10, ge=1, le=10_000, description="Steps of a brief recovery.")
    finalists: int = Field(
        default=0, ge=0, le=100,
        description="The best trials that are compared again, after a brief recovery; 0 or 1: the best one is taken.",
    )  # fmt: skip
    trials: int = Field(
        default=1, ge=1, le=2000,
        description="Allocations to try, seeds included, of which the exact knapsack over the scores is the first; "
        "with one, it is the result.",
    )  # fmt: skip
    random_seeds: int = Field(default=6, ge=0, le=2000, description="Random allocations among the seeds.")
    candidates: int = Field(
        default=400, ge=1, le=MOST_CANDIDATES, description="Budget-keeping candidates per proposal."
    )
    calibration_sequences: int = Field(
        default=8, ge=1, le=MOST_SEQUENCES, description="Sequences of text a trial is measured on."
    )
    screening_sequences: int = Field(
        default=2, ge=1, le=MOST_SEQUENCES,
        description="The first of these sequences; a trial that is hopeless on them ends there.",
    )  # fmt: skip
    batch: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Allocations asked for at once: those of a batch do not learn of each other.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that measure the trials of a batch at once, each with a model in memory and its share "
        "of the CPU's threads; a GPU is shared by all of them. At most as many as batch.",
    )
    front_points: int = Field(
        default=0, ge=0, le=100,
        description="Other budgets, from the smallest to the largest, whose best allocations are measured too.",
    )  # fmt: skip
    precisions: tuple[Annotated[str, Field(max_length=32)], ...] = Field(
        default=(), max_length=32,
        description="Precisions that the weights of a layer may have, by name; those of the target. Default: those in "
        "the table of targets.",
    )  # fmt: skip
    granularity: Literal["layer", "block", "module"] = Field(
        default="module",
        description="Unit that gets its own precision: a layer, its attention and its MLP, or every module.",
    )
    embeddings: bool = Field(
        default=True, description="Quantize the embeddings and the head too, where that is the better use of bytes."
    )

    @field_validator("precisions", mode="before")
    @classmethod
    def _from_bits(cls, value: Any) -> Any:
        return precision_names(value)

    @field_validator("precisions")
    @classmethod
    def _sorted_unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in BITS_PER_WEIGHT:
                raise ValueError(f"{name!r} is no precision; known are {', '.join(BITS_PER_WEIGHT)}")
        return tuple(sorted(set(value), key=size_order))

    @model_validator(mode="after")
    def _prior_of_the_objective(self) -> AllocateConfig:
        if self.objective == "recovered" and self.search == "bayesian" and self.prior == "additive":
            raise ValueError('scores say nothing of a loss after recovery: with objective "recovered" set prior "none"')
        return self

    @model_validator(mode="after")
    def _work_for_all(self) -> AllocateConfig:
        if self.workers > self.batch:
            few = f"a batch of {self.batch} leaves some of {self.workers} workers idle"
            raise ValueError(f"{few}: set batch to at least {self.workers}")
        return self
