"""Seconds of a trial of the search, against rounding the model anew and evaluating it on the same tokens."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.sensitivity_report import Speed
from qpruner_core.fitting.precision_bank import PrecisionBank
from qpruner_core.measure.divergence import Divergence
from qpruner_core.mixed.groups import precision_by_module
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models.families import family_of, linear_weight
from qpruner_core.precision_names import UNQUANTIZED

_PREFIX_BYTES = 2**29
_SCREENED = 4
"""So many times fewer tokens are read by a screening trial."""


def measure_speed(
    model: PreTrainedModel,
    bank: PrecisionBank,
    memory: MemoryModel,
    calibration: torch.Tensor,
    trials: int,
    on_trial: Callable[[int, int], None],
) -> Speed:
    """Both ways on the same allocations: each swaps two layers of one that was tried before, as the search does."""
    family = family_of(model)
    divergence = Divergence(model, family, calibration, capacity=_PREFIX_BYTES)
    screening = Divergence(model, family, calibration[:1, : calibration.numel() // _SCREENED], capacity=_PREFIX_BYTES)
    generator = random.Random(1)  # noqa: S311 - a sample, not a secret
    parent = tuple(generator.choice(list(group.options)) for group in memory.groups)
    bank.apply(parent)
    divergence(states=bank.states())
    screening(states=bank.states())
    found = Speed(trial=[], screening=[], anew=[], quantizing=[])
    for done in range(trials):
        child = list(parent)
        first, second = _two_unlike(child, generator)
        child[first], child[second] = child[second], child[first]
        for way, seconds in ((divergence, found.trial), (screening, found.screening)):
            bank.apply(parent)
            started = time.perf_counter()
            bank.apply(child)
            way(states=bank.states())
            seconds.append(time.perf_counter() - started)
        bank.apply([UNQUANTIZED] * len(child))
        started = time.perf_counter()
        plain = _quantize(model, bank, child)
        found.quantizing.append(time.perf_counter() - started)
        try:
            divergence()
        finally:
            for name, module in plain.items():
                model.set_submodule(name, module)
        found.anew.append(time.perf_counter() - started)
        on_trial(done + 1, trials)
    return found


def _two_unlike(precisions: Sequence[str], generator: random.Random) -> tuple[int, int]:
    """Two groups that do not have the same precision: to swap equal ones is no trial."""
    while True:
        first, second = generator.sample(range(len(precisions)), 2)
        if precisions[first] != precisions[second]:
            return first, second


def _quantize(model: PreTrainedModel, bank: PrecisionBank, precisions: Sequence[str]) -> dict[str, nn.Module]:
    """Put modules of an allocation, rounded to the nearest, into ``model``; the modules that were there."""
    before = {}
    for name, precision in precision_by_module(bank.groups, precisions).items():
        module = before[name] = model.get_submodule(name)
        kind = bank.kinds[precision]
        model.set_submodule(name, kind.build(kind.encode(linear_weight(module)), getattr(module, "bias", None)))
    return before
