from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.prune.activations import FeatureStatistics


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    offset=st.sampled_from([0.0, -3.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_statistics_of_pieces_equal_those_of_the_whole(lengths: list[int], offset: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pieces = [torch.randn(length, 4, generator=generator, dtype=torch.float64) + offset for length in lengths]
    statistics = FeatureStatistics()
    for piece in pieces:
        statistics.add(piece)
    whole = torch.cat(pieces)
    assert statistics.count == len(whole)
    torch.testing.assert_close(statistics.mean, whole.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(statistics.mean_square, whole.square().mean(0), rtol=1e-12, atol=0)
    if len(whole) > 1:
        torch.testing.assert_close(statistics.variance, whole.var(0), rtol=1e-9, atol=1e-9)
    else:
        assert statistics.variance.tolist() == [0, 0, 0, 0]
