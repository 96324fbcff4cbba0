"""Bytes of the loaded model, exactly, from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from transformers import PretrainedConfig

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.mixed.groups import embedding_names, precision_groups
from qpruner_core.models.families import Family, linear_shape
from qpruner_core.models.reshape import empty_model
from qpruner_core.precisions import precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.report import BytesByPart


class MemoryModel:
    """Predicts the bytes of a model of ``config`` (dense or pruned) under any allocation.

    Counts what the loaded model keeps: embeddings and head once if tied; norms, position embeddings and buffers; for
    each linear module its weight, bias and quantization constants; experts, which stay in 16 bits; adapters in bfloat16
    on every linear module of a layer. Allocations have one number of bits for each of ``groups``.
    """

    def __init__(
        self, config: PretrainedConfig, family: Family, quantize: QuantizeConfig, allocate: AllocateConfig
    ) -> None:
        skeleton = empty_model(config)
        self.groups = precision_groups(skeleton, family, allocate)
        kinds = precisions(quantize).values()
        shapes = [[_shape(skeleton.get_submodule(name)) for name in group.modules] for group in self.groups]
        self._weight = [
            {kind.bits: sum(kind.weight_bytes(*one) for one in group) for kind in kinds} for group in shapes
        ]
        self._constants = [
            {kind.bits: sum(kind.constant_bytes(*shape) for shape in group) for kind in kinds} for group in shapes
        ]
        layers = family.decoder_layers(skeleton)
        linears = [linear for layer in layers for linear in family.linears_of(layer)]
        biases = sum(_bytes(cast(torch.Tensor | None, linear.bias)) for linear in linears)
        self._adapters = sum(2 * quantize.lora_rank * sum(linear_shape(linear)) for linear in linears)
        everything = {id(tensor): tensor for tensor in (*skeleton.parameters(), *skeleton.buffers())}
        total = sum(tensor.numel() * tensor.element_size() for tensor in everything.values())
        # Experts and their routers stay in 16 bits
        experts = sum(_bytes(cut.tensor) for layer in layers for cut in family.cuts(layer) if cut.axis == "expert")
        self._in_layers = experts + biases
        embeddings = sum(
            _bytes(cast(torch.Tensor, skeleton.get_submodule(name).weight))
            for name in embedding_names(skeleton).values()
        )
        weights = sum(_bytes(cast(torch.Tensor, linear.weight)) for linear in linears)
        self._norms = total - self._in_layers - weights - embeddings
        self._other_embeddings = embeddings - sum(
            self._weight[index][16] for index, group in enumerate(self.groups) if group.layer is None
        )
        self.dense_bytes = total

    def by_part(self, bits: Sequence[int], *, adapters: bool = True) -> BytesByPart:
        """Bytes of each part when group ``i`` has ``bits[i]``."""
        weights = {True: 0, False: 0}
        for group, weight, bit in zip(self.groups, self._weight, bits, strict=True):
            weights[group.layer is None] += weight[bit]
        return BytesByPart(
            embeddings=self._other_embeddings + weights[True],
            layers=self._in_layers + weights[False],
            quantization_constants=sum(constants[bit] for constants, bit in zip(self._constants, bits, strict=True)),
            norms=self._norms,
            adapters=self._adapters if adapters else 0,
        )

    @property
    def lowest(self) -> tuple[int, ...]:
        """The allocation with every group at the fewest bits that it may have."""
        return tuple(group.options[0] for group in self.groups)

    def total(self, bits: Sequence[int]) -> int:
        """Bytes of the loaded model with adapters when group ``i`` has ``bits[i]``."""
        return self.by_part(bits).total

    def mean_bits(self, bits: Sequence[int]) -> float:
        """Bits of a weight that has a choice, on average, when group ``i`` has ``bits[i]``."""
        weights = [weight[16] for weight in self._weight]
        return sum(weight * bit for weight, bit in zip(weights, bits, strict=True)) / sum(weights)

    @property
    def group_bytes(self) -> list[dict[int, int]]:
        """Bytes of the weights and constants of each group, at each of its options."""
        return [{bits: self.group(index, bits) for bits in group.options} for index, group in enumerate(self.groups)]

    @property
    def fixed_bytes(self) -> int:
        """Bytes of all that has no options."""
        return self.total(self.lowest) - sum(self.group(index, bits) for index, bits in enumerate(self.lowest))

    def group(self, index: int, bits: int) -> int:
        """Bytes of the weights and constants of group ``index`` at ``bits``."""
        return self._weight[index][bits] + self._constants[index][bits]


def _shape(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Embedding):
        return module.num_embeddings, module.embedding_dim
    return linear_shape(module)


def _bytes(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()
