from __future__ import annotations

import math

import numpy as np
import pytest

from qpruner_core.score.information.discrete import discrete_entropy, discrete_mutual_information
from qpruner_core.score.information.estimator import at_least, merge_rare


def test_identical_labels_share_their_entropy() -> None:
    labels = np.random.default_rng(0).integers(0, 8, 20_000)
    assert discrete_mutual_information(labels, labels) == pytest.approx(math.log(8), abs=0.01)
    assert discrete_entropy(labels) == pytest.approx(math.log(8), abs=0.001)


def test_independent_labels_share_nothing() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 16, (2, 5_000))
    assert discrete_mutual_information(x, y) < 0.01


def test_the_correction_removes_most_of_the_bias_of_independent_labels() -> None:
    corrected = []
    for seed in range(20):
        x, y = np.random.default_rng(seed).integers(0, 16, (2, 1_000))
        corrected.append(discrete_mutual_information(x, y))
    plug_in_bias = 15 * 15 / (2 * 1_000)
    assert np.mean(corrected) < plug_in_bias / 5


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_a_noisy_binary_channel_has_its_capacity(noise: float) -> None:
    generator = np.random.default_rng(1)
    x = generator.integers(0, 2, 50_000)
    y = np.where(generator.random(50_000) < noise, 1 - x, x)
    known = math.log(2) + noise * math.log(noise) + (1 - noise) * math.log(1 - noise)
    assert discrete_mutual_information(x, y) == pytest.approx(known, abs=0.01)


def test_rare_labels_become_one() -> None:
    assert merge_rare(np.array([5, 5, 5, 2, 2, 9, 7]), keep=2).tolist() == [5, 5, 5, 2, 2, -1, -1]


def test_every_label_is_there_often_enough_after_the_rarest_were_made_one() -> None:
    assert at_least(np.array([5, 5, 2, 2, 9, 9]), 2).tolist() == [1, 1, 0, 0, 2, 2]
    assert at_least(np.array([5, 5, 5, 2, 2, 9, 7]), 2).tolist() == [1, 1, 1, 0, 0, -1, -1]
    # The single 9 alone is not enough either, so the next rarest goes with it.
    assert at_least(np.array([5, 5, 5, 2, 2, 9]), 2).tolist() == [1, 1, 1, -1, -1, -1]
    assert at_least(np.array([1, 2, 3]), 4).tolist() == [-1, -1, -1]
