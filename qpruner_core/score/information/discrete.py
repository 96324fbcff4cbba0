"""Entropy and mutual information of labels, with the Miller-Madow correction.

The plug-in entropy of N labels is too low by about ``(bins - 1) / 2N`` nats, so the plug-in mutual information ``Σ
p(x,y) log p(x,y) / (p(x) p(y))`` is too high by about ``(|X|-1)(|Y|-1) / 2N``. The correction adds that to each
entropy, with the number of observed bins (Miller, "Note on the bias of information estimates", 1955).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def discrete_entropy(labels: NDArray[np.int64]) -> float:
    """H in nats of ``labels [n]``."""
    _, counts = np.unique(labels, return_counts=True)
    share = counts / labels.size
    return float(-(share * np.log(share)).sum() + (counts.size - 1) / (2 * labels.size))


def discrete_mutual_information(x: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    """I(X; Y) in nats of two label sequences of equal length, at least 0."""
    _, xs = np.unique(x, return_inverse=True)
    _, ys = np.unique(y, return_inverse=True)
    joint = xs * (ys.max() + 1) + ys
    return max(discrete_entropy(xs) + discrete_entropy(ys) - discrete_entropy(joint), 0.0)
