"""Vectors of a layer in the few directions of largest variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA


def principal_components(hidden: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float64]:
    """``hidden [n, d]`` in its ``count`` first principal components (all, if it has fewer), float64 ``[n, count]``.

    Information in the others is lost: by the data-processing inequality mutual information only decreases.
    """
    vectors = hidden.astype(np.float64)
    if vectors.shape[1] <= count:
        return vectors
    reduced: NDArray[np.float64] = PCA(min(count, len(vectors)), random_state=seed).fit_transform(vectors)
    return reduced
