"""Mutual information between a layer's output and the model's prediction (QPruner, arXiv 2412.11629, section 3.2).

X is the output hidden state of a layer at a position of the text, scaled to unit length: its readers scale it too, and
the states of some positions are hundreds of times as large as others and would dominate every cluster and component.
The prediction Y is the most likely next token there, with all but the most frequent ones merged into one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.models.families import Family
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS
from qpruner_core.score.information.estimator import merge_rare

_MAX_POSITIONS = 4096


class LayerOutputs(NamedTuple):
    """``hidden``: output of each layer ``[positions, hidden size]`` in the model's dtype, on the CPU. ``predicted``:
    token ids ``[positions]``, int64."""

    hidden: list[torch.Tensor]
    predicted: NDArray[np.int64]

    def directions(self, layer: int) -> NDArray[np.float32]:
        """The outputs of one layer, each scaled to unit length.

        Raises:
            NotFiniteError: one is NaN or infinite.
        """
        hidden = self.hidden[layer].float().numpy()
        if not np.isfinite(hidden).all():
            raise NotFiniteError(
                f"The output of layer {layer} is not finite.",
                field="model",
                remedy="Check its weights for NaN or infinity, or prune less.",
            )
        scaled: NDArray[np.float32] = hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-12)
        return scaled


@torch.no_grad()
def layer_outputs(model: PreTrainedModel, family: Family, calibration: torch.Tensor) -> LayerOutputs:
    """Outputs of every layer and predictions of ``model``, at no more than 4096 positions spread evenly over token ids
    ``calibration [n, length]``."""
    layers = family.decoder_layers(model)
    outputs: list[list[torch.Tensor]] = [[] for _ in layers]
    per_sequence = max(1, min(calibration.shape[1], _MAX_POSITIONS // len(calibration)))
    picked = torch.linspace(0, calibration.shape[1] - 1, per_sequence).long()

    def keep(index: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            outputs[index].append(hidden[0, picked].cpu())

        return hook

    hooks = [layer.register_forward_hook(keep(index)) for index, layer in enumerate(layers)]
    predicted = []
    try:
        for sequence in calibration:
            logits = model(input_ids=sequence.unsqueeze(0).to(model.device), use_cache=False).logits
            predicted.append(logits[0, picked].argmax(dim=-1).cpu())
    finally:
        for handle in hooks:
            handle.remove()
    return LayerOutputs([torch.cat(collected) for collected in outputs], torch.cat(predicted).numpy())


def layer_mutual_information(
    model: PreTrainedModel,
    family: Family,
    calibration: torch.Tensor,
    settings: ScoreConfig,
    *,
    seed: int,
    on_layer: Callable[[int, int], None],
) -> list[float]:
    """I(output of layer; predicted token) in nats for each layer, on token ids ``calibration [n, length]``.

    Raises:
        InvalidConfigError: the text has too few positions for the settings.
        NotFiniteError: a layer's output is NaN or infinite.
    """
    outputs = layer_outputs(model, family, calibration)
    labels = merge_rare(outputs.predicted, settings.predictions)
    estimate = ESTIMATORS[settings.information]
    scores = []
    for layer in range(len(outputs.hidden)):
        scores.append(estimate(outputs.directions(layer), labels, settings, seed))
        on_layer(layer + 1, len(outputs.hidden))
    return scores
