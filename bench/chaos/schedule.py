"""When which part goes down and comes up again, by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Blow:
    """One part goes down ``at`` so many seconds after the beginning, and is started again ``down`` seconds later."""

    at: float
    kind: str
    down: float


def plan_blows(seed: int, kinds: Sequence[str], each: int, seconds: float, longest: float) -> list[Blow]:
    """``each`` blows of every kind, spread over ``seconds``, in order; a part is down for ``longest`` seconds at most.

    Kinds do not wait for one another, so that several parts are down at once now and then.
    """
    blows = []
    for kind in kinds:
        chance = random.Random(f"{seed} {kind}")  # noqa: S311 - nothing is secret about it
        slot = seconds / each
        for number in range(each):
            down = min(chance.uniform(0.0, longest), slot / 2)
            blows.append(Blow(slot * number + chance.uniform(0.0, slot - down), kind, down))
    return sorted(blows, key=lambda blow: blow.at)
