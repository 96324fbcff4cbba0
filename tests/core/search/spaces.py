"""Spaces to search and losses that need no model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial

from hypothesis import strategies as st

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.search.scores import Scores
from qpruner_core.search.search import AllocationSearch
from qpruner_core.search.space import Allocation, SearchSpace
from qpruner_core.search.trial import Proposal, Trial, TrialMeasurement


def space_of(layers: int = 8, share: float = 0.3, *, seed: int = 0, embeddings: bool = True) -> SearchSpace:
    """Layers of unequal sizes, and embeddings that have 8 or 16 bits, ``share`` of the way up to most bytes."""
    generator = random.Random(seed)
    weights = [generator.choice([2000, 3000, 3500]) for _ in range(layers)]
    sizes = [{"nf4": weight // 2 + 40, "int8": weight + 20, "bf16": 2 * weight} for weight in weights]
    places: list[int | None] = list(range(layers))
    if embeddings:
        sizes.append({"int8": 9000, "bf16": 17000})
        places.append(None)
    low, high = (500 + sum(pick(size.values()) for size in sizes) for pick in (min, max))
    return SearchSpace(sizes, 500, low + int(share * (high - low)), places)


def scores_of(space: SearchSpace, seed: int = 0) -> Scores:
    generator = random.Random(seed)
    sensitivity = []
    for group in range(len(space)):
        four = math.exp(generator.uniform(-6, -2))
        cost = {"nf4": four, "int8": four / 20, "bf16": 0.0}
        sensitivity.append({option: cost[option] for option in space.options(group)})
    return Scores(
        groups=[str(group) for group in range(len(space))],
        mutual_information=[generator.random() for layer in space.layers if layer is not None],
        sensitivity=sensitivity,
    )


def measured_by(
    loss: Callable[[Allocation], float], screening_error: float = 0.0
) -> Callable[[Proposal], TrialMeasurement]:
    """Measures as a worker does: on a little text first, and no more where that is hopeless."""

    def measure(proposal: Proposal) -> TrialMeasurement:
        full = loss(proposal.precisions)
        few = full * math.exp(random.Random(str(proposal.precisions)).gauss(0, screening_error))
        if few > proposal.stop_above:
            return TrialMeasurement(few, few, proposal.screening, 1.0)
        return TrialMeasurement(full, few, proposal.sequences, 4.0)

    return measure


def searched(
    space: SearchSpace, scores: Scores, loss: Callable[[Allocation], float], *, seed: int = 0, **settings: object
) -> tuple[AllocationSearch, list[Trial]]:
    search = AllocationSearch(space, scores, AllocateConfig.model_validate(settings), seed=seed)
    return search, search.run(partial(map, measured_by(loss, 0.1)), lambda trial: None)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    return space_of(
        draw(st.integers(1, 9)), draw(st.floats(0, 1)), seed=draw(st.integers(0, 99)), embeddings=draw(st.booleans())
    )
