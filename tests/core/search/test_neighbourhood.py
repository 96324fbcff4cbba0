from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.search.knapsack import solve
from qpruner_core.search.learned_losses import additive_loss
from qpruner_core.search.neighbourhood import near
from qpruner_core.search.space import SearchSpace

NAMES = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "bf16")


@settings(deadline=None, max_examples=30)
@given(groups=st.integers(1, 12), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_what_is_near_has_the_knapsack_and_at_most_one_option_on_either_side(
    groups: int, share: float, seed: int
) -> None:
    generator = random.Random(seed)
    losses = [{name: generator.random() * 4**-place for place, name in enumerate(NAMES)} for _ in range(groups)]
    sizes = [
        {name: (place + 2) * generator.choice([32, 64, 100]) + place for place, name in enumerate(NAMES)}
        for _ in range(groups)
    ]
    low, high = (sum(pick(size.values()) for size in sizes) for pick in (min, max))
    space = SearchSpace(sizes, 0, low + int(share * (high - low)), list(range(groups)))
    narrow = near(space, losses)
    assert all(1 <= len(found) <= 3 for found in narrow.group_bytes)
    assert all(found.items() <= whole.items() for found, whole in zip(narrow.group_bytes, sizes, strict=True))
    best = solve(space, losses)
    assert narrow.fits(best)
    assert additive_loss(losses, solve(narrow, losses)) <= additive_loss(losses, best) * (1 + 1e-6) + 1e-9
