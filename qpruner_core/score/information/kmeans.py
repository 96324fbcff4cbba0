"""Mutual information with the cluster of a vector: k-means bins, plug-in estimate, Miller-Madow correction.

Binning loses information, so up to noise the result is a lower bound of I(X; Y), and at most the logarithm of the
number of clusters. It detects any dependence that separates the clusters, linear or not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information.discrete import discrete_mutual_information
from qpruner_core.score.information.estimator import require_positions


def kmeans(hidden: NDArray[np.float32], labels: NDArray[np.int64], settings: ScoreConfig, seed: int) -> float:
    """I(cluster of X; Y) in nats, see :class:`Estimator`, with ``settings.clusters`` clusters or as many as there are
    distinct vectors."""
    require_positions(len(hidden), settings.clusters, "score.clusters")
    count = min(settings.clusters, len(np.unique(hidden, axis=0)))
    bins = KMeans(n_clusters=count, n_init=1, max_iter=50, random_state=seed).fit_predict(hidden)
    return discrete_mutual_information(bins, labels)
