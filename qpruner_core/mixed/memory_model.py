"""Exact bytes of the loaded model, from shapes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.mixed.groups import adapted_names, embedding_names, precision_groups
from qpruner_core.models.families import Family, linear_shape
from qpruner_core.models.reshape import shapes_only
from qpruner_core.precision_names import BITS_PER_WEIGHT, UNQUANTIZED
from qpruner_core.precisions import Precision
from qpruner_core.report import BytesByPart
from qpruner_core.targets.base import Shape, Target


class MemoryModel:
    """Predicts the bytes of a model of ``config`` (dense or pruned) under any allocation, as stored by ``target``.

    Counts embeddings and head once if tied; norms, position embeddings, and buffers if the target keeps them; for each
    linear module its weight, bias and quantization constants; routers of experts in 16 bits; and bfloat16 adapters, if
    they ship, on the modules that have one. An allocation has one option for each of ``groups``.
    """

    def __init__(self, config: PretrainedConfig, family: Family, target: Target) -> None:
        skeleton = shapes_only(config, experts_apart=True)
        self.groups = precision_groups(skeleton, family, target)

        def sizes(size: Callable[[Precision, int, int], int]) -> list[dict[str, int]]:
            """Of each group, at each of its options."""
            of_module = cache(lambda precision, shape: size(target.precisions[precision], *shape))
            options = [{**group.options, UNQUANTIZED: (UNQUANTIZED,) * len(group.modules)} for group in self.groups]
            return [
                {option: _total(of_module, zip(names, group.shapes, strict=True)) for option, names in choices.items()}
                for choices, group in zip(options, self.groups, strict=True)
            ]

        self._weight = sizes(lambda kind, rows, columns: kind.weight_bytes(rows, columns))
        self._constants = sizes(lambda kind, rows, columns: kind.constant_bytes(rows, columns))
        self._bits = sizes(lambda kind, rows, columns: round(BITS_PER_WEIGHT[kind.name] * rows * columns))
        layers = family.decoder_layers(skeleton)
        linears = [layer.get_submodule(path) for layer in layers for path in family.adapted_paths(layer)]
        self._adapters = _adapter_bytes(config, skeleton, family, target) if target.adapter_rank else 0
        held = target.unquantized_bytes(config, skeleton)
        names = {id(tensor): name for name, tensor in skeleton.named_parameters()}
        routers = [cut.tensor for layer in layers for cut in family.cuts(layer) if cut.axis == "expert"]
        biases = [linear.bias for linear in linears if isinstance(linear.bias, torch.Tensor)]
        self._in_layers = sum(held.pop(name) for name in {names[id(tensor)] for tensor in (*routers, *biases)})
        tables = {f"{name}.weight" for name in embedding_names(skeleton).values()}
        for name in {f"{module}.weight" for group in self.groups for module in group.modules}:
            held.pop(name, None)  # experts of the skeleton share one
        self._other_embeddings = sum(held.pop(name) for name in tables & set(held))
        self._norms = sum(held.values())
        whole = shapes_only(config)
        everything = {id(tensor): tensor for tensor in (*whole.parameters(), *whole.buffers())}
        self.dense_bytes = sum(tensor.numel() * tensor.element_size() for tensor in everything.values())

    def by_part(self, allocation: Sequence[str]) -> BytesByPart:
        """Bytes of each part when group ``i`` has ``allocation[i]``."""
        weights = {True: 0, False: 0}
        for group, weight, option in zip(self.groups, self._weight, allocation, strict=True):
            weights[group.layer is None] += weight[option]
        return BytesByPart(
            embeddings=self._other_embeddings + weights[True],
            layers=self._in_layers + weights[False],
            quantization_constants=sum(
                constants[option] for constants, option in zip(self._constants, allocation, strict=True)
            ),
            norms=self._norms,
            adapters=self._adapters,
        )

    @property
    def lowest(self) -> tuple[str, ...]:
        """The allocation with every group at its smallest option."""
        return tuple(next(iter(group.options)) for group in self.groups)

    def total(self, allocation: Sequence[str]) -> int:
        """Bytes of the model, adapters included, when group ``i`` has ``allocation[i]``."""
        return self.by_part(allocation).total

    def mean_bits(self, allocation: Sequence[str]) -> float:
        """Average nominal bits per weight with a choice, when group ``i`` has ``allocation[i]``."""
        bits = sum(sizes[option] for sizes, option in zip(self._bits, allocation, strict=True))
        return bits * BITS_PER_WEIGHT[UNQUANTIZED] / sum(sizes[UNQUANTIZED] for sizes in self._bits)

    def bits_within(self, budget: int) -> float:
        """Bits per weight with a choice that ``budget`` bytes allow."""
        weights = sum(sizes[UNQUANTIZED] for sizes in self._weight) // 2
        return 8 * (budget - self.fixed_bytes) / weights

    @property
    def group_bytes(self) -> list[dict[str, int]]:
        """Bytes of the weights and constants of each group, at each of its options."""
        return [
            {option: self.group(index, option) for option in group.options} for index, group in enumerate(self.groups)
        ]

    @property
    def fixed_bytes(self) -> int:
        """Bytes of everything without options."""
        return self.total(self.lowest) - sum(self.group(index, option) for index, option in enumerate(self.lowest))

    def group(self, index: int, option: str) -> int:
        """Bytes of the weights and constants of group ``index`` at ``option``."""
        return self._weight[index][option] + self._constants[index][option]


def _total(size: Callable[[str, Shape], int], modules: Iterable[tuple[str, Shape]]) -> int:
    """The sum of ``size`` over ``modules`` (precision and shape), most of which are alike if they are experts."""
    return sum(count * size(precision, shape) for (precision, shape), count in Counter(modules).items())


def _adapter_bytes(config: PretrainedConfig, skeleton: PreTrainedModel, family: Family, target: Target) -> int:
    """Two bytes per entry of the factors."""
    layers = range(len(family.decoder_layers(skeleton)))
    names = [name for layer in layers for name in adapted_names(skeleton, family, layer)]
    shapes = {name: linear_shape(skeleton.get_submodule(name)) for name in names}
    return sum(2 * target.adapter_rank * sum(shape) for shape in target.adapter_shapes(config, shapes).values())
