"""Sizes that a dataset must have, and must not."""

from __future__ import annotations

from qpruner_core.errors import DatasetTooShortError

LONGEST_RECORD = 8 * 2**20
"""The most bytes of one record: as Python's objects, nested lists take some thirty times as much."""


def refuse_too_few_bytes(size: int, length: int) -> None:
    """Refuse a dataset of ``size`` bytes that cannot fill a window of ``length`` tokens on either side of the split.

    A token stands for at least a byte, so this refuses nothing that would do; the rest is found by tokenizing.

    Raises:
        DatasetTooShortError: fewer bytes than two windows have tokens.
    """
    if size < 2 * length:
        raise DatasetTooShortError(
            f"The dataset has {size} bytes, fewer than the {2 * length} tokens that training and evaluation need.",
            field="dataset",
            remedy=f"Give more text (some {8 * length} characters or more), or a smaller sequence_length.",
        )
