"""Mutual information between a layer's output and the model's prediction (QPruner, arXiv 2412.11629, section 3.2).

A layer's output X is continuous and of high dimension, so it is binned: k-means clusters of the hidden states. The
prediction Y is the most likely next token, with all but the most frequent ones counted as one. On these the plug-in
estimate ``Σ p(x,y) log p(x,y) / (p(x) p(y))`` is biased upwards by about ``(|X|-1)(|Y|-1) / 2N`` nats; the
Miller-Madow correction subtracts that with the numbers of bins that were seen. Binning loses information, so the
result is a lower bound of I(X; Y) up to that bias.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from transformers import PreTrainedModel

from qpruner_core.models.families import Family

_MAX_POSITIONS = 4096


def discrete_mutual_information(x: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    """I(X; Y) in nats of two label sequences of equal length, with the Miller-Madow correction, at least 0."""
    _, xs = np.unique(x, return_inverse=True)
    _, ys = np.unique(y, return_inverse=True)
    joint = np.zeros((xs.max() + 1, ys.max() + 1))
    np.add.at(joint, (xs, ys), 1)
    corrected = _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())
    return max(corrected, 0.0)


def _entropy(counts: NDArray[np.float64]) -> float:
    seen = counts[counts > 0]
    share = seen / seen.sum()
    return float(-(share * np.log(share)).sum() + (seen.size - 1) / (2 * seen.sum()))


def binned_mutual_information(
    hidden: NDArray[np.float32], labels: NDArray[np.int64], clusters: int, seed: int
) -> float:
    """I(X; Y) in nats of vectors ``hidden [n, d]`` and ``labels [n]``, X binned into ``clusters`` by k-means."""
    count = min(clusters, len(np.unique(hidden, axis=0)))
    # Hidden states of some positions are hundreds of times as large as others: without scaling they own the clusters.
    scaled = hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-12)
    bins = KMeans(n_clusters=count, n_init=1, max_iter=50, random_state=seed).fit_predict(scaled)
    return discrete_mutual_information(bins, labels)


def merge_rare(labels: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
    """``labels`` with all but the ``keep`` most frequent replaced by -1."""
    values, counts = np.unique(labels, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")[:keep]]
    return np.where(np.isin(labels, frequent), labels, -1)


@torch.no_grad()
def layer_mutual_information(
    model: PreTrainedModel,
    family: Family,
    calibration: torch.Tensor,
    *,
    clusters: int,
    predictions: int,
    seed: int,
    on_layer: Callable[[int, int], None],
) -> list[float]:
    """I(output of layer; predicted token) in nats for each layer, on token ids ``calibration [n, length]``."""
    layers = family.decoder_layers(model)
    outputs: list[list[torch.Tensor]] = [[] for _ in layers]

    def keep(index: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            outputs[index].append(hidden[0, picked].float().cpu())

        return hook

    per_sequence = max(1, min(calibration.shape[1], _MAX_POSITIONS // len(calibration)))
    picked = torch.linspace(0, calibration.shape[1] - 1, per_sequence).long()
    hooks = [layer.register_forward_hook(keep(index)) for index, layer in enumerate(layers)]
    predicted = []
    try:
        for sequence in calibration:
            logits = model(input_ids=sequence.unsqueeze(0).to(model.device), use_cache=False).logits
            predicted.append(logits[0, picked].argmax(dim=-1).cpu())
    finally:
        for hook in hooks:
            hook.remove()
    labels = merge_rare(torch.cat(predicted).numpy(), predictions)
    scores = []
    for index, collected in enumerate(outputs):
        scores.append(binned_mutual_information(torch.cat(collected).numpy(), labels, clusters, seed))
        on_layer(index + 1, len(layers))
    return scores
