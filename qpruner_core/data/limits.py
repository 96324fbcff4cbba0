"""Lower and upper limits of a dataset's size."""

from __future__ import annotations

from qpruner_core.errors import DatasetTooShortError

LONGEST_RECORD = 8 * 2**20
"""Most bytes of one record; as Python objects, nested lists take about thirty times as much."""


def refuse_too_few_bytes(size: int, length: int) -> None:
    """Reject a dataset of ``size`` bytes that cannot fill a window of ``length`` tokens on either side of the split.

    A token stands for at least one byte, so no sufficient dataset is rejected; tokenizing finds the remaining cases.

    Raises:
        DatasetTooShortError: fewer bytes than two windows have tokens.
    """
    if size < 2 * length:
        raise DatasetTooShortError(
            f"The dataset has {size} bytes, fewer than the {2 * length} tokens that training and evaluation need.",
            field="dataset",
            remedy=f"Give more text (about {8 * length} characters or more), or a smaller sequence_length.",
        )
