from __future__ import annotations

import math

import numpy as np
import pytest

from qpruner_core.score.mutual_information import binned_mutual_information, discrete_mutual_information, merge_rare


def test_identical_labels_share_their_entropy() -> None:
    labels = np.random.default_rng(0).integers(0, 8, 20_000)
    assert discrete_mutual_information(labels, labels) == pytest.approx(math.log(8), abs=0.01)


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


def test_binning_vectors_finds_what_their_direction_tells_of_the_label() -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 4, 4_000)
    centres = generator.normal(size=(4, 32)) * 5
    hidden = (centres[labels] + generator.normal(size=(4_000, 32))).astype(np.float32)
    assert binned_mutual_information(hidden, labels, clusters=16, seed=0) == pytest.approx(math.log(4), abs=0.05)
    unrelated = generator.normal(size=(4_000, 32)).astype(np.float32)
    assert binned_mutual_information(unrelated, labels, clusters=16, seed=0) < 0.02


def test_fewer_distinct_vectors_than_clusters_are_no_error() -> None:
    hidden = np.repeat(np.eye(3, 5, dtype=np.float32), 50, axis=0)
    labels = np.repeat([0, 1, 2], 50)
    assert binned_mutual_information(hidden, labels, clusters=32, seed=0) == pytest.approx(math.log(3), abs=0.05)


def test_rare_labels_become_one() -> None:
    assert merge_rare(np.array([5, 5, 5, 2, 2, 9, 7]), keep=2).tolist() == [5, 5, 5, 2, 2, -1, -1]
