"""Nearest-neighbour estimate between vectors and labels (Ross, "Mutual Information between Discrete and Continuous Data
Sets", PLoS ONE 9(2), 2014).

For each vector, the distance to its k-th neighbour of the same label is compared with the number m of vectors of any
label within it: ``I = ψ(N) - <ψ(N_y)> + <ψ(k)> - <ψ(m)>``. If k or more of the same label are at distance zero, k is
their number (Gao et al., "Estimating Mutual Information for Discrete-Continuous Mixtures", 2017), so that discrete X
are allowed too. scikit-learn's ``mutual_info_classif`` is the same formula, but for one feature at a time.

It has no bins and detects any dependence, but only in few dimensions: in hundreds, all distances are alike and the
estimate is far too low. So it uses only the first ``components`` principal components.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma
from sklearn.neighbors import KDTree

from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information.estimator import at_least, require_positions
from qpruner_core.score.information.principal import principal_components


def knn(hidden: NDArray[np.float32], labels: NDArray[np.int64], settings: ScoreConfig, seed: int) -> float:
    """I(first principal components of X; Y) in nats, see :class:`Estimator`, by ``settings.neighbours`` neighbours.

    The rarest labels are merged if they have too few vectors for so many neighbours.
    """
    require_positions(len(hidden), settings.neighbours + 1, "score.neighbours")
    labels = at_least(labels, settings.neighbours + 1)
    vectors = principal_components(hidden, settings.components, seed)
    same, distance, size = _within_labels(vectors, labels, settings.neighbours)
    within = KDTree(vectors).query_radius(vectors, distance, count_only=True) - 1  # a vector is not its own neighbour
    terms = digamma(same) - digamma(size) - digamma(within)
    return max(float(digamma(len(vectors)) + terms.mean()), 0.0)


def _within_labels(
    vectors: NDArray[np.float64], labels: NDArray[np.int64], neighbours: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """For each vector: neighbours of the same label within its distance, that distance, and the label's size."""
    same = np.full(len(labels), neighbours)
    distance = np.zeros(len(labels))
    size = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = labels == label
        size[own] = own.sum()
        tree = KDTree(vectors[own])
        radius = tree.query(vectors[own], neighbours + 1)[0][:, -1]
        distance[own] = np.where(radius == 0, 0, np.nextafter(radius, np.inf))  # rounding must not lose the last one
        duplicates = tree.query_radius(vectors[own], np.zeros(len(radius)), count_only=True) - 1
        same[own] = np.where(radius == 0, duplicates, neighbours)
    return same, distance, size
