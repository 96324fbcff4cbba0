"""Interface of a target: an engine, and how it stores a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.errors import QPrunerError
from qpruner_core.finetune.config import FinetuneConfig, Recovery, RecoveryPart, recovery_parts
from qpruner_core.models.families import Family
from qpruner_core.precision_names import UNQUANTIZED, size_order
from qpruner_core.precisions import Precision
from qpruner_core.prune.config import PruneConfig
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.config import DEFAULT_RUNS_ON, RunsOn, TargetName

Shape = tuple[int, int]
"""Outputs and inputs of a linear module; rows and columns of an embedding."""

WITHOUT_ADAPTERS = {"initialisation": "zero", "loftq_iterations": 0, "rank_allocation": "uniform"}
"""Quantization settings without adapters."""


class Target(ABC):
    """A target, bound to the settings of a run.

    Attributes:
        quantize: effective quantization settings: without adapters, nothing initialises them.
        precisions: every precision that the engine supports, by name and ascending size.
        options: precisions that a search may give to weights in the layers, by ascending size.
        embedding_options: precisions for the embeddings and a separate head; only ``bf16`` if they stay unquantized.
        granularity: the unit that gets its own precision.
        recovery: parts of the recovery, in order.
        adapter_rank: rank of the adapters that ship with the checkpoint and count in its bytes; 0: none.
    """

    name: ClassVar[TargetName]
    default_options: ClassVar[tuple[str, ...]]
    default_recovery: ClassVar[Recovery] = "scales"

    def __init__(
        self,
        quantize: QuantizeConfig,
        allocate: AllocateConfig,
        finetune: FinetuneConfig = FinetuneConfig(),
        runs_on: RunsOn = DEFAULT_RUNS_ON,
    ) -> None:
        self._settings = quantize, allocate, finetune, runs_on
        asked = self.default_recovery if finetune.recovery == "auto" else finetune.recovery
        self.recovery: tuple[RecoveryPart, ...] = recovery_parts(asked)
        self.adapter_rank = quantize.lora_rank if "adapter" in self.recovery else 0
        self.quantize = quantize if self.adapter_rank else quantize.model_copy(update=WITHOUT_ADAPTERS)
        self.precisions: Mapping[str, Precision] = self._precisions(quantize)
        named = allocate.precisions or self._default_options(runs_on)
        self.options: tuple[str, ...] = tuple(sorted(named, key=size_order))
        self.granularity = allocate.granularity
        self.embedding_options: tuple[str, ...] = self._embedding_options() if allocate.embeddings else (UNQUANTIZED,)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same target, bound to the same settings."""
        if not isinstance(other, Target):
            return NotImplemented
        return (type(self), self._settings) == (type(other), other._settings)

    __hash__ = None  # type: ignore[assignment]

    def group_options(
        self, shapes: Sequence[Shape], names: Iterable[str], modules: Sequence[str] = ()
    ) -> dict[str, tuple[str, ...]]:
        """For a group of ``modules`` (full names) of these ``shapes``: the precision of each module under every option
        of ``names``.

        Options that equal an earlier one for every module are left out. An option that gives one precision to all
        modules has its name.
        """
        fused = self.fused(modules) if modules else list(range(len(shapes)))
        together: dict[int, tuple[Shape, ...]] = {}
        for shape, key in zip(shapes, fused, strict=True):
            together[key] = (*together.get(key, ()), shape)
        stored_as = cache(self.stored_as)  # most modules of a large group have the same shape
        found: dict[str, tuple[str, ...]] = {}
        for name in names:
            each = tuple(stored_as(name, together[key]) for key in fused)
            if each not in found.values():
                found[each[0] if len(set(each)) == 1 else name] = each
        return dict(sorted(found.items(), key=lambda item: size_order(item[0])))

    def stored_as(self, name: str, shapes: Sequence[Shape]) -> str:
        """Stored precision of fused modules of ``shapes`` at ``name``: that, or the engine's fallback. Most modules are
        not fused."""
        return name

    def fused(self, modules: Sequence[str]) -> list[int]:
        """A number for each of ``modules`` (full names), equal for modules that the engine fuses."""
        return list(range(len(modules)))

    def together(self, family: Family) -> Sequence[frozenset[str]]:
        """Paths of linear modules of a layer that the engine fuses, and which must have the same precision."""
        return ()

    def unquantized_bytes(self, config: PretrainedConfig, model: PreTrainedModel) -> dict[str, int]:
        """Unquantized bytes of each parameter of ``model`` (of ``config``, on the meta device) by name, tied ones once;
        and other data that the engine keeps, such as buffers."""
        tensors = [*model.named_parameters(), *model.named_buffers()]
        once = {id(tensor): (name, tensor) for name, tensor in reversed(tensors)}
        return {name: tensor.numel() * tensor.element_size() for name, tensor in once.values()}

    def adapter_shapes(self, config: PretrainedConfig, shapes: Mapping[str, Shape]) -> Mapping[str, Shape]:
        """Outputs and inputs of the factors of each module's adapter in the files, from those of the modules."""
        return shapes

    def refusal(self, config: PretrainedConfig, family: Family) -> QPrunerError | None:
        """Reason why the engine cannot run a model of this ``config``, dense or pruned; ``None``: it can."""
        return None

    def adapted(
        self, prune: PruneConfig, dense: PretrainedConfig, family: Family
    ) -> tuple[PruneConfig, tuple[str, ...]]:
        """Pruning settings that the engine can run, or runs best, and why they differ from those given.

        Raises:
            UnsupportedByTargetError: the engine cannot run any result of explicitly given settings.
        """
        return prune, ()

    def tokenizer_refusal(self, directory: Path, vocabulary: int) -> QPrunerError | None:
        """Reason why the engine cannot use the tokenizer of ``directory`` with so many rows of an embedding."""
        return None

    @abstractmethod
    def _precisions(self, quantize: QuantizeConfig) -> Mapping[str, Precision]: ...

    def _default_options(self, runs_on: RunsOn) -> tuple[str, ...]:
        """The options of a run that names none."""
        return self.default_options

    def _embedding_options(self) -> tuple[str, ...]:
        return self.options
