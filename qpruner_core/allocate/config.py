"""Settings of the allocate stage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from qpruner_core.bounds import MOST_CANDIDATES, MOST_SEQUENCES
from qpruner_core.precision_names import BITS_PER_WEIGHT, precision_names, size_order
from qpruner_core.strict import StrictModel

ObjectiveName = Literal["divergence", "recovered"]
"""Name of the loss that a trial measures."""


class AllocateConfig(StrictModel):
    """The search for the precision of every group of modules."""

    search: Literal["bayesian", "random", "knapsack", "mutual_information", "uniform"] = Field(
        default="bayesian",
        description="Search method. bayesian: Bayesian optimisation; random: random allocations; knapsack: the exact "
        "knapsack over the scores; mutual_information: by mutual information; uniform: the same precision"
        " everywhere. The last three try one allocation.",
    )
    prior: Literal["additive", "none"] = Field(
        default="additive",
        description="Prior mean of Bayesian optimisation. additive: the scores; none: no prior, as in the paper.",
    )
    objective: ObjectiveName = Field(
        default="divergence",
        description="Objective of a trial. divergence: KL divergence from the pruned model, before recovery; "
        "recovered: the loss after a brief recovery, as in the paper (slow, and without a prior).",
    )
    recovery_steps: int = Field(default=10, ge=1, le=10_000, description="Optimiser steps of the brief recovery.")
    finalists: int = Field(
        default=0, ge=0, le=100,
        description="Number of best trials that are compared again after a brief recovery; with 0 or 1 the best trial"
        " is taken as it is.",
    )  # fmt: skip
    trials: int = Field(
        default=1, ge=1, le=2000,
        description="Number of allocations to try, including the seeds. The exact knapsack over the scores comes "
        "first; with 1, it is the result.",
    )  # fmt: skip
    random_seeds: int = Field(default=6, ge=0, le=2000, description="Number of random allocations among the seeds.")
    candidates: int = Field(
        default=400, ge=1, le=MOST_CANDIDATES, description="Candidates per proposal, all within the budget."
    )
    calibration_sequences: int = Field(default=8, ge=1, le=MOST_SEQUENCES, description="Sequences per trial.")
    screening_sequences: int = Field(
        default=2, ge=1, le=MOST_SEQUENCES,
        description="Sequences of the screening at the start of a trial; a hopeless trial stops after them.",
    )  # fmt: skip
    batch: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of allocations proposed at once. Proposals of one batch do not learn from each other.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of processes that measure the trials of a batch in parallel, at most as many as batch. "
        "Each has a model in memory and its share of the CPU threads; all share one GPU.",
    )
    front_points: int = Field(
        default=0, ge=0, le=100,
        description=(
            "Number of other budgets, from the smallest to the largest, whose best allocations are measured "
            "too."
        ),
    )  # fmt: skip
    precisions: tuple[Annotated[str, Field(max_length=32)], ...] = Field(
        default=(), max_length=32,
        description=(
            "Precisions that the weights of a layer may have. They must belong to the target. Default: the "
            "target's list in the guide."
        ),
    )  # fmt: skip
    granularity: Literal["layer", "block", "module"] = Field(
        default="module",
        description="Unit that gets its own precision: a decoder layer, a block (attention or MLP), or a module.",
    )
    embeddings: bool = Field(
        default=True, description="Also quantize the embeddings and the head if that uses the bytes better."
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
                raise ValueError(f"{name!r} is not a precision; known precisions: {', '.join(BITS_PER_WEIGHT)}")
        return tuple(sorted(set(value), key=size_order))

    @model_validator(mode="after")
    def _prior_of_the_objective(self) -> AllocateConfig:
        if self.objective == "recovered" and self.search == "bayesian" and self.prior == "additive":
            raise ValueError('scores do not predict a loss after recovery: set prior "none" with objective "recovered"')
        return self

    @model_validator(mode="after")
    def _work_for_all(self) -> AllocateConfig:
        if self.workers > self.batch:
            few = f"a batch of {self.batch} leaves some of {self.workers} workers idle"
            raise ValueError(f"{few}: set batch to at least {self.workers}")
        return self
