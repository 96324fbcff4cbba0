"""Influence of every decoder layer on the hidden states (ShortGPT's block influence, arXiv 2403.03853, equation 1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from qpruner_core.forward.passes import OnBatch, forward_passes, hooked
from qpruner_core.models.families import Family


def layer_influence(
    model: PreTrainedModel, family: Family, calibration: torch.Tensor, on_batch: OnBatch
) -> list[float]:
    """One minus the mean cosine similarity of a layer's input and output hidden states, for every layer.

    0: the layer only rescales; up to 2. ``calibration``: token ids ``[sequences, length]``, int64.

    Raises:
        NotFiniteError: a hidden state is NaN or infinite.
    """
    layers = family.decoder_layers(model)
    similarity = [0.0] * len(layers)

    def measure(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: object) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            assert isinstance(before, torch.Tensor)
            assert isinstance(after, torch.Tensor)
            similarity[index] += cosine_similarity(_wide(before), _wide(after), dim=-1).mean().item()

        return hook

    with hooked([layer.register_forward_hook(measure(i), with_kwargs=True) for i, layer in enumerate(layers)]):
        forward_passes(model, calibration, on_batch)
    return [1 - total / len(calibration) for total in similarity]


def _wide(states: torch.Tensor) -> torch.Tensor:
    return states.to(torch.promote_types(states.dtype, torch.float32))
