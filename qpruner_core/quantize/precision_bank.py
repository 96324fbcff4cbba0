"""Every layer at every precision, ready to swap: a trial of the search changes pointers, not weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, linear_weight, set_linear_weight
from qpruner_core.precisions import Precision, precisions
from qpruner_core.quantize.mixed_model import linear_names


class PrecisionBank:
    """Holds the bfloat16 values of each layer's weights after a round trip through each precision.

    Swapping them into the 16-bit model, and rounding inputs where the precision does, gives what the quantized modules
    compute, without their slow kernels.
    If ``capacity`` bytes do not hold all of them, the rest is quantized again at each swap: slower, same values.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        family: Family,
        *,
        bits: Sequence[int],
        double_quant: bool,
        capacity: int,
        on_layer: Callable[[int, int], None],
    ) -> None:
        self._model = model
        self._kinds: dict[int, Precision] = precisions(double_quant)
        layers = len(family.decoder_layers(model))
        self._names = [linear_names(model, family, layer) for layer in range(layers)]
        self._dense = [[linear_weight(model.get_submodule(name)) for name in names] for names in self._names]
        self._ready: dict[tuple[int, int], list[torch.Tensor]] = {}
        self._now = [16] * layers
        for layer, names in enumerate(self._names):
            for name in names:
                model.get_submodule(name).register_forward_pre_hook(self._round_input(layer))
        room = capacity
        for layer in range(layers):
            for bit in bits:
                size = sum(weight.numel() * weight.element_size() for weight in self._dense[layer])
                if bit != 16 and size <= room:
                    self._ready[layer, bit] = self._round_trip(layer, bit)
                    room -= size
            on_layer(layer + 1, layers)

    def apply(self, bits: Sequence[int]) -> None:
        """Let layer ``i`` of the model have ``bits[i]``; 16 is the model as it was."""
        for layer, (old, new) in enumerate(zip(self._now, bits, strict=True)):
            if old != new:
                for name, weight in zip(self._names[layer], self._values(layer, new), strict=True):
                    set_linear_weight(self._model.get_submodule(name), weight)
                self._now[layer] = new

    def _round_input(self, layer: int) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor]]:
        def hook(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            return (self._kinds[self._now[layer]].round_input(args[0]),)

        return hook

    def _values(self, layer: int, bits: int) -> list[torch.Tensor]:
        if bits == 16:
            return self._dense[layer]
        return self._ready.get((layer, bits)) or self._round_trip(layer, bits)

    def _round_trip(self, layer: int, bits: int) -> list[torch.Tensor]:
        kind = self._kinds[bits]
        return [kind.decode(kind.encode(weight)) for weight in self._dense[layer]]
