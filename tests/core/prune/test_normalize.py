from __future__ import annotations

import pytest
import torch

from qpruner_core.models.families import Unit
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.normalize import Normalization, normalize


def _layers() -> list[LayerImportance]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            Unit.CHANNEL: scale * torch.rand(20, generator=generator, dtype=torch.float64),
            Unit.QUERY_HEAD: scale * torch.rand(6, generator=generator, dtype=torch.float64),
            Unit.KEY_VALUE_HEAD: scale * torch.rand(3, generator=generator, dtype=torch.float64),
        }
        for scale in (1.0, 100.0)
    ]


@pytest.mark.parametrize("how", ["sum", "mean", "standardize"])
def test_a_layer_whose_scores_are_all_larger_by_a_factor_gains_nothing(how: Normalization) -> None:
    layers = _layers()
    scaled = [layers[0], {unit: 1000 * scores for unit, scores in layers[0].items()}]
    first, second = normalize(scaled, Unit.CHANNEL, how)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", ["none", "sum", "mean", "standardize"])
@pytest.mark.parametrize("unit", [Unit.CHANNEL, Unit.QUERY_HEAD])
def test_the_order_within_a_layer_stays(how: Normalization, unit: Unit) -> None:
    layers = _layers()
    for layer, scores in zip(layers, normalize(layers, unit, how), strict=True):
        assert torch.equal(scores.argsort(), layer[unit].argsort())


def test_each_way_gives_what_it_is_named_after() -> None:
    layers = _layers()
    assert torch.equal(normalize(layers, Unit.CHANNEL, "none")[1], layers[1][Unit.CHANNEL])
    assert [scores.sum().item() for scores in normalize(layers, Unit.CHANNEL, "sum")] == pytest.approx([1, 1])
    assert [scores.mean().item() for scores in normalize(layers, Unit.CHANNEL, "mean")] == pytest.approx([1, 1])
    for scores in normalize(layers, Unit.CHANNEL, "standardize"):
        assert scores.mean().item() == pytest.approx(0, abs=1e-12)
        assert scores.square().mean().item() == pytest.approx(1)


def test_a_key_value_head_counts_with_the_query_heads_that_read_it() -> None:
    layer = _layers()[0]
    (groups,) = normalize([layer], Unit.KEY_VALUE_HEAD, "none")
    queries = layer[Unit.QUERY_HEAD]
    expected = [layer[Unit.KEY_VALUE_HEAD][n] + queries[2 * n] + queries[2 * n + 1] for n in range(3)]
    torch.testing.assert_close(groups, torch.stack(expected))


@pytest.mark.parametrize("how", ["none", "sum", "mean", "standardize"])
def test_a_layer_without_such_units_is_empty_and_one_of_dead_units_is_zero(how: Normalization) -> None:
    dead: LayerImportance = {Unit.CHANNEL: torch.zeros(4, dtype=torch.float64)}
    empty, zeros = normalize([{}, dead], Unit.CHANNEL, how)
    assert empty.shape == (0,)
    assert zeros.tolist() == [0, 0, 0, 0]
