"""Lower bound by a Gaussian classifier: ``I(X; Y) ≥ H(Y) - CE`` (Barber and Agakov, 2003).

CE is the cross-entropy, on positions that it was not fitted to, of linear discriminant analysis: Gaussians with one
mean per label and one covariance for all (shrunk by Ledoit and Wolf's rule), on the first ``components`` principal
components. Hidden states are not that normal, so the classifier is overconfident; its log-likelihood ratios are
therefore scaled by the factor that minimises CE. The result is a bound for any X, so it is never above H(Y). The
log-determinant ``½ log |Σ| / |Σ_within|`` is not used: with many labels X is far from one Gaussian, and then that is
neither a lower nor an upper bound.

Differences that need a curved boundary are missed. With few positions per label, the error of the means lowers the
result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import StratifiedKFold

from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information.estimator import at_least, require_positions
from qpruner_core.score.information.principal import principal_components

_FOLDS = 5
_LEAST_VARIANCE = 1e-6  # share of the total variance: repeated vectors have none around their label's mean


def gaussian(hidden: NDArray[np.float32], labels: NDArray[np.int64], settings: ScoreConfig, seed: int) -> float:
    """H(Y) - CE in nats, see :class:`Estimator`, five-fold cross-validated.

    The rarest labels are merged if they are on fewer positions than there are folds.
    """
    require_positions(len(hidden), _FOLDS, "score.calibration_sequences")
    labels = at_least(labels, _FOLDS)
    if len(np.unique(labels)) == 1:
        return 0.0
    vectors = principal_components(hidden, settings.components, seed)
    # Folds are runs of positions, not random: neighbours in a text are alike, and must not be on both sides.
    folds = list(StratifiedKFold(_FOLDS).split(vectors, labels))
    ratios = np.concatenate([_log_likelihoods(vectors, labels, fitted, held_out) for fitted, held_out in folds])
    classes, counts = np.unique(labels, return_counts=True)
    own = np.searchsorted(classes, np.concatenate([labels[held_out] for _, held_out in folds]))
    prior = np.log(counts / counts.sum())

    def cross_entropy(scale: float) -> float:
        return float(-log_softmax(scale * ratios + prior, axis=1)[np.arange(len(own)), own].mean())

    least = minimize_scalar(cross_entropy, bounds=(0, 1), method="bounded", options={"xatol": 1e-3}).fun
    return max(cross_entropy(0.0) - float(least), 0.0)  # both with the frequencies of these labels


def _log_likelihoods(
    vectors: NDArray[np.float64], labels: NDArray[np.int64], fitted: NDArray[np.int64], held_out: NDArray[np.int64]
) -> NDArray[np.float64]:
    """log p(x|y), up to terms that do not depend on y, of the ``held_out`` positions ``[n, labels]``, by Gaussians
    fitted to the ``fitted`` ones."""
    _, classes = np.unique(labels[fitted], return_inverse=True)
    means = np.stack([vectors[fitted][classes == number].mean(axis=0) for number in range(classes.max() + 1)])
    covariance = LedoitWolf(assume_centered=True).fit(vectors[fitted] - means[classes]).covariance_
    spread = np.trace(covariance) + means.var(axis=0).sum()
    covariance += _LEAST_VARIANCE * max(spread, np.finfo(float).tiny) * np.eye(len(covariance))
    towards = np.linalg.solve(covariance, means.T)
    found: NDArray[np.float64] = vectors[held_out] @ towards - (means.T * towards).sum(axis=0) / 2
    return found
