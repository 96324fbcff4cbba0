from __future__ import annotations

import pytest

from bench.allocation_loss import Loss
from bench.best_estimator import best_estimators
from bench.layer_order import CHANCE, DEPTH, LayerOrder

LAYERS = 30  # chance is within ±0.36


def _order(name: str, alone: float, spared: float, half: float) -> LayerOrder:
    return LayerOrder(
        name=name, scores=[0.0] * LAYERS, alone=alone, spared=spared, alone_on_loss=0.0, spared_on_loss=0.0, depth=0.0,
        repeated=None, half=Loss(divergence=half, log_perplexity=3.0),
    )  # fmt: skip


def _said(kmeans: LayerOrder, *, depth: tuple[float, float, float]) -> list[str]:
    others = [_order("knn", 0.1, 0.2, 0.3), _order("gaussian", 0.2, 0.1, 0.2), _order(DEPTH, *depth)]
    chance = [_order(f"{CHANCE} 1", 0.9, 0.9, 0.15), _order(f"{CHANCE} 2", -0.9, 0.9, 0.25)]
    return best_estimators([kmeans, *others, *chance]).splitlines()


def test_where_none_is_beyond_chance_that_is_said_however_it_compares_with_depth() -> None:
    assert _said(_order("kmeans", 0.36, -0.9, 0.4), depth=(-0.1, 0.3, 0.1)) == [
        "- By what NF4 alone costs: **kmeans** (+0.36), no better than chance (within ±0.36), better than the depth "
        "order (-0.10).",
        "- By what 16 bits alone win: **knn** (+0.20), no better than chance (within ±0.36), no better than the depth "
        "order (+0.30).",
        "- By the divergence of half: **gaussian** (0.2000), no better than chance (the best of 2 random orders "
        "0.1500), no better than the depth order (0.1000).",
        "",
        "No estimator orders the layers better than chance by any of these.",
    ]


@pytest.mark.parametrize(
    ("depth", "conclusion"),
    [
        (
            (0.3, 0.3, 0.2),
            "Better than both chance and depth: kmeans by what NF4 alone costs; kmeans by what 16 bits alone win; "
            "kmeans by the divergence of half.",
        ),
        (
            (0.9, 0.9, 0.12),
            "Better than both chance and depth: kmeans by the divergence of half. By the others none is.",
        ),
        ((0.9, 0.9, 0.1), "No estimator orders the layers better than both chance and their depth by any of these."),
    ],
)
def test_an_estimator_that_is_beyond_chance_is_named_where_it_beats_depth_too(
    depth: tuple[float, float, float], conclusion: str
) -> None:
    *lines, last = _said(_order("kmeans", 0.37, 0.5, 0.11), depth=depth)
    assert last == conclusion
    assert sum("**kmeans**" in line and ", better than chance" in line for line in lines) == 3
