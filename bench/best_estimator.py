"""Which estimator of mutual information orders the layers best, worked out from the figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.layer_order import CHANCE, DEPTH, LayerOrder
from qpruner_core.score.information import ESTIMATORS


def chance_bound(layers: int) -> float:
    """The correlation that an order without any sense stays below, in size, in 95 of 100 cases."""
    return 1.96 / math.sqrt(layers - 1)


def best_estimators(orders: Sequence[LayerOrder]) -> str:
    """As markdown: of each way to judge an order the best estimator, beside chance and depth; and what follows."""
    found = [
        _by_correlation(orders, "what NF4 alone costs", lambda order: order.alone),
        _by_correlation(orders, "what 16 bits alone win", lambda order: order.spared),
        _by_half(orders),
    ]
    return "\n".join([*(best.line() for best in found), "", _conclusion(found)])


class _Best(NamedTuple):
    """The best estimator by one way to judge; ``value``, ``chance``, ``depth``: as the page shows them."""

    judged_by: str
    name: str
    value: str
    chance: str
    depth: str
    beats_chance: bool
    beats_depth: bool

    def line(self) -> str:
        words = {True: "better", False: "no better"}
        return (
            f"- By {self.judged_by}: **{self.name}** ({self.value}), {words[self.beats_chance]} than chance "
            f"({self.chance}), {words[self.beats_depth]} than the depth order ({self.depth})."
        )


def _by_correlation(orders: Sequence[LayerOrder], judged_by: str, correlation: Callable[[LayerOrder], float]) -> _Best:
    best, depth = max(_estimators(orders), key=correlation), _depth(orders)
    bound = chance_bound(len(depth.scores))
    return _Best(
        judged_by, best.name, f"{correlation(best):+.2f}", f"within ±{bound:.2f}", f"{correlation(depth):+.2f}",
        beats_chance=correlation(best) > bound, beats_depth=correlation(best) > correlation(depth),
    )  # fmt: skip


def _by_half(orders: Sequence[LayerOrder]) -> _Best:
    best, depth = min(_estimators(orders), key=_of_half), _depth(orders)
    draws = [_of_half(order) for order in orders if order.name.startswith(CHANCE)]
    return _Best(
        "the divergence of half", best.name, f"{_of_half(best):.4f}",
        f"the best of {len(draws)} random orders {min(draws):.4f}", f"{_of_half(depth):.4f}",
        beats_chance=_of_half(best) < min(draws), beats_depth=_of_half(best) < _of_half(depth),
    )  # fmt: skip


def _conclusion(found: Sequence[_Best]) -> str:
    if not any(best.beats_chance for best in found):
        return "No estimator orders the layers better than chance by any of these."
    both = [f"{best.name} by {best.judged_by}" for best in found if best.beats_chance and best.beats_depth]
    if not both:
        return "No estimator orders the layers better than both chance and their depth by any of these."
    others = "" if len(both) == len(found) else " By the others none is."
    return f"Better than both chance and depth: {'; '.join(both)}.{others}"


def _estimators(orders: Sequence[LayerOrder]) -> list[LayerOrder]:
    return [order for order in orders if order.name in ESTIMATORS]


def _depth(orders: Sequence[LayerOrder]) -> LayerOrder:
    return next(order for order in orders if order.name == DEPTH)


def _of_half(order: LayerOrder) -> float:
    return order.half.divergence
