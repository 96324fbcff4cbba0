"""What holds for every estimator, and what sets them apart, against cases whose mutual information is known."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm, ortho_group

from qpruner_core.errors import InvalidConfigError
from qpruner_core.score.config import Information, ScoreConfig
from qpruner_core.score.information import ESTIMATORS
from qpruner_core.score.information.estimator import Estimator

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]
SETTINGS = ScoreConfig()
every_estimator = pytest.mark.parametrize("estimate", ESTIMATORS.values(), ids=ESTIMATORS)


def two_bumps(count: int, *, apart: float, seed: int = 0) -> Samples:
    """Two equally likely labels; X is normal with variance 1 around a mean a label, which are ``apart``."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    vectors = labels[:, None] * apart + generator.normal(size=(count, 1))
    return vectors.astype(np.float32), labels


def two_bumps_known(apart: float) -> float:
    """I of :func:`two_bumps`: the entropy of the mixture less that of a bump, by quadrature."""

    def density(x: float) -> float:
        return float(norm.pdf(x) + norm.pdf(x - apart)) / 2

    entropy = quad(lambda x: -density(x) * math.log(density(x)), -8, 8 + apart)[0]
    return float(entropy - norm.entropy())


def in_many_dimensions(vectors: NDArray[np.float32], size: int, *, noise: float, seed: int = 0) -> NDArray[np.float32]:
    """``vectors`` with dimensions of independent noise beside theirs, turned at random: I stays what it was."""
    generator = np.random.default_rng(seed + 1)
    beside = noise * generator.normal(size=(len(vectors), size - vectors.shape[1]))
    turn = ortho_group.rvs(size, random_state=generator)
    return (np.hstack([vectors, beside]) @ turn).astype(np.float32)


def exclusive_or(count: int, seed: int = 0) -> Samples:
    """Four bumps in a square, far apart; the label says whether the signs differ, so I is almost log 2."""
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1, 1], (count, 2))
    vectors = 5 * signs + generator.normal(size=(count, 2))
    return vectors.astype(np.float32), (signs[:, 0] != signs[:, 1]).astype(np.int64)


def test_every_estimator_of_the_setting_exists() -> None:
    assert set(ESTIMATORS) == set(get_args(Information))


@every_estimator
@pytest.mark.parametrize("apart", [1.0, 2.0, 4.0])
def test_two_normal_bumps_have_the_information_that_an_integral_gives(estimate: Estimator, apart: float) -> None:
    vectors, labels = two_bumps(4_000, apart=apart)
    assert estimate(vectors, labels, SETTINGS, 0) == pytest.approx(two_bumps_known(apart), abs=0.03)


@every_estimator
def test_independence_gives_about_nothing_in_few_and_in_many_dimensions(estimate: Estimator) -> None:
    generator = np.random.default_rng(0)
    labels = generator.zipf(1.5, 2_000) % 8
    for size in (1, 64):
        vectors = generator.normal(size=(2_000, size)).astype(np.float32)
        assert estimate(vectors, labels, SETTINGS, 0) < 0.05


@every_estimator
def test_labels_that_vectors_tell_for_certain_give_their_entropy(estimate: Estimator) -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 4, 4_000)
    centres = generator.normal(size=(4, 32)) * 5
    hidden = (centres[labels] + generator.normal(size=(4_000, 32))).astype(np.float32)
    assert estimate(hidden, labels, SETTINGS, 0) == pytest.approx(math.log(4), abs=0.05)


@every_estimator
def test_vectors_that_repeat_are_as_good_as_labels(estimate: Estimator) -> None:
    hidden = np.repeat(np.eye(3, 5, dtype=np.float32), 50, axis=0)
    labels = np.repeat([0, 1, 2], 50)
    assert estimate(hidden, labels, SETTINGS, 0) == pytest.approx(math.log(3), abs=0.05)


def test_neighbours_count_repeated_vectors_as_a_noisy_channel() -> None:
    generator = np.random.default_rng(1)
    x = generator.integers(0, 2, 4_000)
    labels = np.where(generator.random(4_000) < 0.2, 1 - x, x)
    known = math.log(2) + 0.2 * math.log(0.2) + 0.8 * math.log(0.8)
    found = ESTIMATORS["knn"](x[:, None].astype(np.float32), labels, SETTINGS, 0)
    assert found == pytest.approx(known, abs=0.02)


@every_estimator
def test_dimensions_of_noise_add_nothing(estimate: Estimator) -> None:
    vectors, labels = two_bumps(2_000, apart=4.0)
    turned = in_many_dimensions(vectors, 200, noise=0.3)
    found = estimate(turned, labels, SETTINGS, 0)
    assert found == pytest.approx(two_bumps_known(4.0), abs=0.08)


@every_estimator
def test_turning_shifting_and_scaling_change_nothing(estimate: Estimator) -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 5, 1_000)
    vectors = generator.normal(size=(5, 6))[labels] + generator.normal(size=(1_000, 6))
    moved = 40 * vectors @ ortho_group.rvs(6, random_state=generator) + 100
    before = estimate(vectors.astype(np.float32), labels, SETTINGS, 0)
    assert estimate(moved.astype(np.float32), labels, SETTINGS, 0) == pytest.approx(before, abs=0.02)
    assert 0.2 < before < math.log(5)


@every_estimator
def test_names_of_labels_do_not_matter(estimate: Estimator) -> None:
    vectors, labels = two_bumps(500, apart=2.0)
    before = estimate(vectors, labels, SETTINGS, 0)
    assert estimate(vectors, np.where(labels == 0, 49_000, -1), SETTINGS, 0) == pytest.approx(before, abs=1e-9)


@every_estimator
def test_the_same_seed_gives_the_same_value_and_leaves_numpys_own_alone(estimate: Estimator) -> None:
    vectors, labels = two_bumps(500, apart=1.0)
    hidden = in_many_dimensions(vectors, 100, noise=0.5)
    np.random.seed(0)
    first = estimate(hidden, labels, SETTINGS, 7)
    np.random.seed(1)
    state = np.random.get_state()[1].tolist()
    assert estimate(hidden, labels, SETTINGS, 7) == first
    assert np.random.get_state()[1].tolist() == state


@every_estimator
def test_one_label_alone_tells_nothing(estimate: Estimator) -> None:
    vectors, _ = two_bumps(100, apart=1.0)
    assert estimate(vectors, np.zeros(100, dtype=np.int64), SETTINGS, 0) == pytest.approx(0.0, abs=1e-12)


def test_the_classifiers_bound_is_never_above_the_entropy_of_the_labels() -> None:
    vectors, labels = two_bumps(300, apart=100.0)
    assert ESTIMATORS["gaussian"](vectors, labels, SETTINGS, 0) <= math.log(2)


def test_only_the_classifier_cannot_see_what_no_plane_tells_apart() -> None:
    vectors, labels = exclusive_or(2_000)
    found = {name: estimate(vectors, labels, SETTINGS, 0) for name, estimate in ESTIMATORS.items()}
    assert found["kmeans"] == pytest.approx(math.log(2), abs=0.03)
    assert found["knn"] == pytest.approx(math.log(2), abs=0.03)
    assert found["gaussian"] < 0.01


@pytest.mark.parametrize(
    ("name", "settings", "count", "field"),
    [
        ("kmeans", {"clusters": 40}, 39, "score.clusters"),
        ("knn", {"neighbours": 8}, 8, "score.neighbours"),
        ("gaussian", {}, 4, "score.calibration_sequences"),
    ],
)
def test_too_few_positions_are_refused_with_the_setting_at_fault(
    name: Information, settings: dict[str, int], count: int, field: str
) -> None:
    vectors, labels = two_bumps(count, apart=1.0)
    with pytest.raises(InvalidConfigError, match=f"{count} positions") as error:
        ESTIMATORS[name](vectors, labels, ScoreConfig.model_validate(settings), 0)
    assert error.value.field == field
    assert "calibration_sequences" in error.value.remedy
    more, more_labels = two_bumps(count + 1, apart=1.0)
    assert ESTIMATORS[name](more, more_labels, ScoreConfig.model_validate(settings), 0) >= 0


@every_estimator
def test_more_principal_components_than_positions_or_dimensions_are_no_error(estimate: Estimator) -> None:
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(40, 64)).astype(np.float32)
    assert estimate(hidden, np.arange(40) % 2, ScoreConfig(components=500), 0) >= 0
