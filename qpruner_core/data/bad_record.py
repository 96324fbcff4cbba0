"""Errors of a dataset or of one of its records."""

from __future__ import annotations

from qpruner_core.errors import DatasetInvalidError


class BadRecordError(Exception):
    """One unusable record; others may be usable. ``reason`` continues "line 3: "."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def invalid(what: str, remedy: str) -> DatasetInvalidError:
    """Error of an unreadable dataset. ``what`` continues "The dataset cannot be used: "."""
    return DatasetInvalidError(f"The dataset cannot be used: {what}.", field="dataset", remedy=remedy)
