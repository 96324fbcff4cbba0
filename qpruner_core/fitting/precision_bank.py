"""Every group at every precision, ready to swap: a trial of the search changes pointers, not weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.fitting.fit_files import FitFiles
from qpruner_core.mixed.groups import PrecisionGroup
from qpruner_core.models.families import linear_weight, set_linear_weight
from qpruner_core.precision_names import UNQUANTIZED
from qpruner_core.precisions import Precision
from qpruner_core.resources import free_memory
from qpruner_core.stage import StageContext


class PrecisionBank:
    """Holds the bfloat16 values of each group's weights at each precision.

    Swapping them into the 16-bit model, and rounding inputs if the precision does, reproduces the results of the
    quantized modules without their slow kernels. ``value`` returns a module's weight ``[out, in]`` at a precision, by
    the module's name; without it, weights are rounded to the nearest level. Values are made on first use. If they
    exceed ``capacity`` bytes, the rest is made again at each swap: slower, with the same result.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        groups: Sequence[PrecisionGroup],
        *,
        kinds: Mapping[str, Precision],
        capacity: int,
        value: Callable[[str, torch.Tensor, str], torch.Tensor] | None = None,
    ) -> None:
        self.kinds = kinds
        self.groups = groups
        self._value = value or self._rounded
        self._modules = [[model.get_submodule(name) for name in group.modules] for group in groups]
        self._dense = [[linear_weight(module) for module in modules] for modules in self._modules]
        self._ready: dict[tuple[int, str], list[torch.Tensor]] = {}
        self._now = [UNQUANTIZED] * len(groups)
        head = model.get_output_embeddings()
        for index, modules in enumerate(self._modules):
            for number, module in enumerate(modules):
                if not isinstance(module, nn.Embedding):
                    module.register_forward_pre_hook(self._round_input(index, number))
                elif head is not None and head.weight is module.weight:  # shares values, and rounds its inputs
                    head.register_forward_pre_hook(self._round_input(index, number))
        self._room = capacity

    def apply(self, allocation: Sequence[str]) -> int | None:
        """Give group ``i`` of the model ``allocation[i]``; ``bf16`` is the model as it was.

        Returns the first decoder layer that this changed: 0 if the embeddings did, ``None`` if nothing did.
        """
        changed = [index for index, (old, new) in enumerate(zip(self._now, allocation, strict=True)) if old != new]
        for index in changed:
            for module, weight in zip(self._modules[index], self.values(index, allocation[index]), strict=True):
                set_linear_weight(module, weight)
            self._now[index] = allocation[index]
        return min((self.groups[index].layer or 0 for index in changed), default=None)

    def states(self) -> list[tuple[str, ...]]:
        """Options of all groups outside the layers, then those of each layer. They identify the present model; see
        :class:`qpruner_core.forward.prefix.PrefixForward`."""
        found: list[list[str]] = [[] for _ in range(2 + max(group.layer or 0 for group in self.groups))]
        for group, option in zip(self.groups, self._now, strict=True):
            found[0 if group.layer is None else group.layer + 1].append(option)
        return [tuple(options) for options in found]

    def _round_input(
        self, index: int, number: int
    ) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor]]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            return (self.kind(index, number, self._now[index]).round_input(args[0]),)

        return hook

    def values(self, index: int, option: str) -> list[torch.Tensor]:
        """Effective weights ``[out, in]`` of the modules of group ``index`` at ``option``, in order."""
        if option == UNQUANTIZED:
            return self._dense[index]
        if (index, option) not in self._ready:
            values = self._at(index, option)
            size = sum(value.numel() * value.element_size() for value in values)
            if size > self._room:
                return values
            self._room -= size
            self._ready[index, option] = values
        return self._ready[index, option]

    def sample(self, index: int, number: int) -> None:
        """``None``: this bank holds all rows."""

    def kind(self, index: int, number: int, option: str) -> Precision:
        """The precision of module ``number`` of group ``index`` at ``option``."""
        return self.kinds[UNQUANTIZED if option == UNQUANTIZED else self.groups[index].options[option][number]]

    def _at(self, index: int, option: str) -> list[torch.Tensor]:
        group = self.groups[index]
        each = zip(group.modules, self._dense[index], group.options[option], strict=True)
        return [weight if kind == UNQUANTIZED else self._value(name, weight, kind) for name, weight, kind in each]

    def _rounded(self, name: str, weight: torch.Tensor, kind: str) -> torch.Tensor:
        return self.kinds[kind].decode(self.kinds[kind].encode(weight)).to(weight.dtype)


def fitted_bank(
    context: StageContext, model: PreTrainedModel, groups: Sequence[PrecisionGroup], *, processes: int = 1
) -> PrecisionBank:
    """The bank of the pruned ``model`` of a run with the values that the quantize stage will write, adapters included.

    Values are read from existing fits. It takes half of the free memory, divided among ``processes``.
    """
    return PrecisionBank(
        model,
        groups,
        kinds=context.plan.target.precisions,
        capacity=free_memory(model.device) // (2 * processes),
        value=FitFiles(context, model).value,
    )


def fitted_pairs(
    groups: Sequence[PrecisionGroup], options: Iterable[Iterable[str]], *, unquantized: bool = False
) -> list[tuple[str, str]]:
    """Every module with each precision that it has under ``options``, which are in the order of ``groups``; linear
    modules of the layers also in 16 bits if ``unquantized``, for their adapters."""
    found = {
        (name, precision): None
        for group, names in zip(groups, options, strict=True)
        for option in names
        for name, precision in zip(group.modules, group.options[option], strict=True)
        if precision != UNQUANTIZED or (unquantized and group.layer is not None)
    }
    return list(found)
