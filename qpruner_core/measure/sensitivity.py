"""Measured effect of each precision on the predictions when one group alone is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qpruner_core.fitting.precision_bank import PrecisionBank
from qpruner_core.measure.divergence import Divergence
from qpruner_core.precision_names import UNQUANTIZED, size_order
from qpruner_core.score.config import SensitivityContext

SensitivityTable = list[dict[str, float]]
"""For each group: option -> nats per token; 0 at ``bf16``."""


def divergence_sensitivity(
    bank: PrecisionBank, divergence: Divergence, context: SensitivityContext, on_group: Callable[[int, int], None]
) -> SensitivityTable:
    """KL divergence that each precision of each group causes. Leaves the model unquantized.

    ``highest``: all other groups are unquantized. ``lowest``: they have their lowest precision, which includes effects
    that appear only when layers are quantized together; a group that alone does more harm than all others together
    stays unquantized, because it would hide every other effect. ``mean``: the average of both.
    """
    count = len(bank.groups)
    passes = 1 if context == "highest" else 2
    found = each_alone(bank, divergence, [UNQUANTIZED] * count, lambda done: on_group(done, passes * count))
    if context != "highest":
        others = lowest_context(bank, found)
        lowest = each_alone(bank, divergence, others, lambda done: on_group(count + done, passes * count))
        found = lowest if context == "lowest" else mean_of(found, lowest)
    bank.apply([UNQUANTIZED] * count)
    return found


def lowest_context(bank: PrecisionBank, alone: SensitivityTable) -> list[str]:
    """The smallest option of every group, except ``bf16`` where that alone does more harm than all others together."""
    lowest = [next(iter(group.options)) for group in bank.groups]
    harm = [losses[option] for losses, option in zip(alone, lowest, strict=True)]
    return [UNQUANTIZED if one > sum(harm) - one else option for one, option in zip(harm, lowest, strict=True)]


def each_alone(
    bank: PrecisionBank, divergence: Divergence, others: Sequence[str], on_group: Callable[[int], None]
) -> SensitivityTable:
    """Loss of every precision of each group relative to its 16-bit weights, while the other groups have ``others``."""
    known: dict[tuple[str, ...], float] = {(UNQUANTIZED,) * len(others): 0.0}
    found: SensitivityTable = [{} for _ in others]
    for done, index in enumerate(reversed(range(len(others)))):  # the last first: layers before it are skipped
        for option in sorted({*bank.groups[index].options, UNQUANTIZED}, key=size_order, reverse=True):
            allocation = (*others[:index], option, *others[index + 1 :])
            if allocation not in known:
                bank.apply(allocation)
                known[allocation] = divergence(states=bank.states())
            found[index][option] = known[allocation]
        found[index] = {option: max(loss - found[index][UNQUANTIZED], 0.0) for option, loss in found[index].items()}
        on_group(done + 1)
    return found


def mean_of(first: SensitivityTable, second: SensitivityTable) -> SensitivityTable:
    """The elementwise average."""
    return [
        {option: (one[option] + other[option]) / 2 for option in one} for one, other in zip(first, second, strict=True)
    ]
