"""Bytes of the loaded model, exactly, from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from transformers import PretrainedConfig

from qpruner_core.models.families import Family, linear_shape
from qpruner_core.models.reshape import empty_model
from qpruner_core.precisions import precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.report import BytesByPart


class MemoryModel:
    """Predicts the bytes of a model of ``config`` (dense or pruned) under any allocation.

    Counts what the loaded model keeps: embeddings and head once if tied; norms, position embeddings and buffers; for
    each linear module its weight, bias and quantization constants; experts, which stay in 16 bits; adapters in bfloat16
    on every linear module of a layer.
    """

    def __init__(self, config: PretrainedConfig, family: Family, quantize: QuantizeConfig) -> None:
        skeleton = empty_model(config)
        layers = family.decoder_layers(skeleton)
        linears = [family.linears_of(layer) for layer in layers]
        shapes = [[linear_shape(linear) for linear in layer] for layer in linears]
        self.layers = len(layers)
        self._weight: list[dict[int, int]] = []
        self._constants: list[dict[int, int]] = []
        for layer in shapes:
            kinds = precisions(quantize.double_quant).values()
            self._weight.append({kind.bits: sum(kind.weight_bytes(*shape) for shape in layer) for kind in kinds})
            self._constants.append({kind.bits: sum(kind.constant_bytes(*shape) for shape in layer) for kind in kinds})
        self._biases = sum(_bytes(cast(torch.Tensor | None, linear.bias)) for layer in linears for linear in layer)
        self._adapters = sum(2 * quantize.lora_rank * sum(shape) for layer in shapes for shape in layer)
        everything = {id(tensor): tensor for tensor in (*skeleton.parameters(), *skeleton.buffers())}
        total = sum(tensor.numel() * tensor.element_size() for tensor in everything.values())
        embeddings = {
            id(module.weight): _bytes(cast(torch.Tensor, module.weight))
            for module in (skeleton.get_input_embeddings(), skeleton.get_output_embeddings())
            if module is not None
        }
        self._embeddings = sum(embeddings.values())
        # Experts and their routers stay in 16 bits
        self._experts = sum(
            _bytes(cut.tensor) for layer in layers for cut in family.cuts(layer) if cut.axis == "expert"
        )
        in_layers = self._experts + self._biases + sum(weight[16] for weight in self._weight)
        self._norms = total - in_layers - self._embeddings
        self.dense_bytes = total

    def by_part(self, bits: Sequence[int], *, adapters: bool = True) -> BytesByPart:
        """Bytes of each part when layer ``i`` has ``bits[i]``."""
        return BytesByPart(
            embeddings=self._embeddings,
            layers=self._experts
            + self._biases
            + sum(weight[bit] for weight, bit in zip(self._weight, bits, strict=True)),
            quantization_constants=sum(constants[bit] for constants, bit in zip(self._constants, bits, strict=True)),
            norms=self._norms,
            adapters=self._adapters if adapters else 0,
        )

    def total(self, bits: Sequence[int]) -> int:
        """Bytes of the loaded model with adapters when layer ``i`` has ``bits[i]``."""
        return self.by_part(bits).total

    def layer(self, index: int, bits: int) -> int:
        """Bytes of the weights and constants of layer ``index`` at ``bits``."""
        return self._weight[index][bits] + self._constants[index][bits]


def _bytes(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()
