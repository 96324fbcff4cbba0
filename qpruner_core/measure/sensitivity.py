"""What each precision does to the predictions when one group alone is changed, measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qpruner_core.fitting.precision_bank import PrecisionBank
from qpruner_core.measure.divergence import Divergence
from qpruner_core.score.config import SensitivityContext

Sensitivity = list[dict[int, float]]
"""For each group: bits -> nats per token; 0 at 16 bits."""


def divergence_sensitivity(
    bank: PrecisionBank, divergence: Divergence, context: SensitivityContext, on_group: Callable[[int, int], None]
) -> Sensitivity:
    """KL divergence that each precision of each group causes. Leaves the model at 16 bits.

    ``highest``: all other groups have 16 bits. ``lowest``: they have their lowest precision, so that what only shows
    where layers were quantized together counts too; but a group that alone does more harm than all others together
    stays at 16 bits, since nothing else would show beside it. ``mean``: the average of both.
    """
    count = len(bank.groups)
    passes = 1 if context == "highest" else 2
    found = each_alone(bank, divergence, [16] * count, lambda done: on_group(done, passes * count))
    if context != "highest":
        others = lowest_context(bank, found)
        lowest = each_alone(bank, divergence, others, lambda done: on_group(count + done, passes * count))
        found = lowest if context == "lowest" else mean_of(found, lowest)
    bank.apply([16] * count)
    return found


def lowest_context(bank: PrecisionBank, alone: Sensitivity) -> list[int]:
    """The lowest bits of every group, but 16 where they alone do more harm than those of all other groups together."""
    lowest = [group.options[0] for group in bank.groups]
    harm = [losses[bits] for losses, bits in zip(alone, lowest, strict=True)]
    return [16 if one > sum(harm) - one else bits for one, bits in zip(harm, lowest, strict=True)]


def each_alone(
    bank: PrecisionBank, divergence: Divergence, others: Sequence[int], on_group: Callable[[int], None]
) -> Sensitivity:
    """What is lost at every precision of each group against its 16 bits, when the other groups have ``others``."""
    known: dict[tuple[int, ...], float] = {(16,) * len(others): 0.0}
    found: Sensitivity = [{} for _ in others]
    for done, index in enumerate(reversed(range(len(others)))):  # the last first: layers before it need not run again
        for bits in sorted({*bank.groups[index].options, 16}, reverse=True):
            allocation = (*others[:index], bits, *others[index + 1 :])
            if allocation not in known:
                bank.apply(allocation)
                known[allocation] = divergence(states=bank.states())
            found[index][bits] = known[allocation]
        found[index] = {bits: max(loss - found[index][16], 0.0) for bits, loss in found[index].items()}
        on_group(done + 1)
    return found


def mean_of(first: Sensitivity, second: Sensitivity) -> Sensitivity:
    """The average of two."""
    return [{bits: (one[bits] + other[bits]) / 2 for bits in one} for one, other in zip(first, second, strict=True)]
