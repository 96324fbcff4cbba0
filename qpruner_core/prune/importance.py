"""First-order Taylor importance of coupled structures (LLM-Pruner, arXiv 2305.11627, element-wise, equation 4).

For a weight w with loss gradient g the loss changes by about ``-w·g`` when w is removed; a unit's importance is the
sum of ``|w·g|`` over all weights that go with it, averaged over calibration batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.models.families import Family


@dataclass
class LayerImportance:
    """Importance of the units of one layer, float64: ``channels [intermediate_size]``, ``query_heads [heads]``,
    ``key_value_heads [groups]`` (the key and value weights alone, without the queries that read them)."""

    channels: torch.Tensor
    query_heads: torch.Tensor
    key_value_heads: torch.Tensor

    def kv_groups(self) -> torch.Tensor:
        """Importance of whole groups: key, value and all query heads that read them. Shape ``[groups]``."""
        groups = self.key_value_heads.numel()
        return self.key_value_heads + self.query_heads.view(groups, -1).sum(dim=1)


def taylor_importance(
    model: PreTrainedModel,
    family: Family,
    calibration: torch.Tensor,
    on_batch: Callable[[int, int], None],
) -> list[LayerImportance]:
    """Importance of every unit of every layer.

    Each gradient is reduced to a number a unit as soon as it exists and then freed, so that memory stays near that
    of the model and the activations of one sequence.

    Args:
        model: bfloat16 or float32 causal language model; its gradients must be free to use.
        calibration: token ids ``[sequences, length]``, int64.
        on_batch: called with (done, total) after each sequence.

    Raises:
        NotFiniteError: the model's loss is NaN or infinite.
    """
    layers = family.decoder_layers(model)
    scores = [_Reducer(family, layer, family.head_dim(model.config)) for layer in layers]
    hooks = []
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for scorer in scores:
        hooks += scorer.attach()
    try:
        for index, sequence in enumerate(calibration):
            ids = sequence.unsqueeze(0).to(model.device)
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            if not torch.isfinite(loss):
                raise NotFiniteError(
                    "The model's loss on the calibration text is not a number.",
                    field="model",
                    remedy="Look for NaN or infinite weights in it.",
                )
            loss.backward()
            on_batch(index + 1, len(calibration))
    finally:
        for hook in hooks:
            hook.remove()
    return [scorer.result(len(calibration)) for scorer in scores]


class _Reducer:
    """Sums ``|w·g|`` of one layer's linear modules over the units that they belong to."""

    def __init__(self, family: Family, layer: nn.Module, head_dim: int) -> None:
        self._linears = {path: layer.get_submodule(path) for path in family.linears}
        self._family = family
        self._head_dim = head_dim
        self._sums: dict[str, torch.Tensor] = {}

    def attach(self) -> list[torch.utils.hooks.RemovableHandle]:
        handles = []
        for path, linear in self._linears.items():
            weight = cast(nn.Parameter, linear.weight)
            weight.requires_grad_(True)
            handles.append(weight.register_post_accumulate_grad_hook(self._hook(path)))
        return handles

    def _hook(self, path: str) -> Callable[[torch.Tensor], None]:
        along = 0 if path in (self._family.attention_output, self._family.down) else 1

        def reduce(weight: torch.Tensor) -> None:
            assert weight.grad is not None
            product = (weight.detach() * weight.grad).abs().sum(dim=along, dtype=torch.float32)
            self._sums[path] = self._sums.get(path, 0) + product.double()
            weight.grad = None

        return reduce

    def result(self, batches: int) -> LayerImportance:
        family = self._family
        sums = {path: total.cpu() / batches for path, total in self._sums.items()}
        heads = (sums[family.query] + sums[family.attention_output]).view(-1, self._head_dim).sum(dim=1)
        groups = (sums[family.key] + sums[family.value]).view(-1, self._head_dim).sum(dim=1)
        return LayerImportance(
            channels=sums[family.gate] + sums[family.up] + sums[family.down],
            query_heads=heads,
            key_value_heads=groups,
        )
