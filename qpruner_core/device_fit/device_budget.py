"""Bytes that a device leaves for weights, and the alternatives if they are too few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from qpruner_core.device_fit.activations import activation_bytes
from qpruner_core.device_fit.config import LONGEST_CONTEXT, FitConfig
from qpruner_core.device_fit.engine_share import engine_bytes
from qpruner_core.device_fit.kv_cache import LLAMA_CPP_SEQUENCES, kv_cache_bytes, most_kv_cache_bytes, refuse_cache
from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.models.families import Family
from qpruner_core.models.positions import most_positions, refuse_beyond_positions
from qpruner_core.prune.layouts import one_of
from qpruner_core.report import DeviceMemory
from qpruner_core.sizes import LARGEST_SIZE, format_bytes
from qpruner_core.targets.config import RunsOn, TargetName

MORE_USE = "name a device with less memory, or more context or sequences"
"""Remedy for a device with room for the dense model."""


@dataclass(frozen=True)
class DeviceBudget:
    """Memory of a device: ``fit`` in the engine of ``target`` on ``runs_on``, for models pruned from ``dense``."""

    fit: FitConfig
    target: TargetName
    runs_on: RunsOn
    dense: PretrainedConfig
    family: Family

    def refuse_unusable(self) -> None:
        """Reject settings that the model or the engine cannot serve.

        Raises:
            InvalidConfigError: the context exceeds that of the model, or the engine lacks the cache type.
        """
        what = f"Sequences of {self.fit.context} tokens"
        refuse_beyond_positions(self.dense, self.fit.context, "fit.context", what=what)
        refuse_cache(self.dense, self.family, self.fit, self.target)

    def memory(self, pruned: PretrainedConfig | None) -> DeviceMemory:
        """All parts of the device's memory with a model of ``pruned``; their sum is the memory.

        ``None``: the pruned shape depends on the data, so the parts beside the weights are those of the largest
        candidate. ``weights`` is below 1 if those parts alone exceed the memory.
        """
        cache = most_kv_cache_bytes if pruned is None else kv_cache_bytes
        config = self.dense if pruned is None else pruned
        kv_cache = cache(config, self.family, self.fit, self.target)
        activations = activation_bytes(config, self.family, self.fit, self.target)
        engine = engine_bytes(self.fit, self.target, self.runs_on, self.dense.vocab_size)
        return DeviceMemory(
            memory=self.fit.memory,
            weights=self.fit.memory - kv_cache - activations - engine,
            kv_cache=kv_cache,
            activations=activations,
            engine=engine,
            context=self.fit.context,
            sequences=self.fit.sequences,
            cache_type=self.fit.cache_type,
            target=self.target,
        )

    def weights(self, pruned: PretrainedConfig | None) -> int:
        """Bytes left for the weights of a model of ``pruned``; see :meth:`memory`."""
        return self.memory(pruned).weights

    def smallest_memory(self, pruned: PretrainedConfig | None, weights: int) -> int:
        """Least device memory with room for ``weights`` bytes of a model of ``pruned``."""
        return _least(lambda memory: self._with(memory=memory).weights(pruned) >= weights, LARGEST_SIZE)

    def too_small(self, pruned: PretrainedConfig | None, weights: int) -> BudgetInfeasibleError:
        """The error that the device has no room for ``weights`` bytes, with settings that would fit.

        ``pruned``: the smallest candidate; see :meth:`memory`.
        """
        parts, needed = self.memory(pruned), self.smallest_memory(pruned, weights)
        beside = (
            f"the KV cache takes {format_bytes(parts.kv_cache)}, activations {format_bytes(parts.activations)} and the "
            f"engine {format_bytes(parts.engine)}"
        )
        left = (
            f"which leaves {format_bytes(parts.weights)} for weights" if parts.weights > 0 else ("which leaves nothing")
        )
        return BudgetInfeasibleError(
            f"{self.fit.memory} bytes of memory ({format_bytes(self.fit.memory)}) are too few: {beside}, "
            f"{left}, and the smallest weights take {weights} bytes ({format_bytes(weights)}).",
            smallest_feasible_bytes=needed,
            field="fit.memory",
            remedy=self._what_fits(pruned, weights, needed),
        )

    def _what_fits(self, pruned: PretrainedConfig | None, weights: int, needed: int) -> str:
        fit = self.fit
        ways = [f"give at least {needed} bytes of memory"]
        most = min(fit.sequences, LLAMA_CPP_SEQUENCES) if self.target == "gguf" else fit.sequences
        sequences = _most(lambda count: self._with(sequences=count).weights(pruned) >= weights, most)
        context = _most(
            lambda count: self._with(context=count).weights(pruned) >= weights,
            min(fit.context, most_positions(self.dense) or LONGEST_CONTEXT),
        )
        if sequences:
            ways.append(f"set fit.sequences to at most {sequences}, with {fit.context} tokens each")
        if context:
            ways.append(f"set fit.context to at most {context}, with fit.sequences at {fit.sequences}")
        return f"{one_of(*ways).capitalize()}."

    def _with(self, **changed: int) -> DeviceBudget:
        return replace(self, fit=self.fit.model_copy(update=changed))


def _most(holds: Callable[[int], bool], most: int) -> int:
    """Largest number up to ``most`` for which ``holds`` is true, given that it is true up to some number; 0 if none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _least(holds: Callable[[int], bool], most: int) -> int:
    """Smallest number up to ``most`` for which ``holds`` is true, given that it is true from some number on."""
    return _most(lambda count: not holds(count), most) + 1
