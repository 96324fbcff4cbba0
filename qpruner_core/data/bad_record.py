"""What is wrong with a dataset, or with one record of it."""

from __future__ import annotations

from qpruner_core.errors import DatasetInvalidError


class BadRecordError(Exception):
    """One record cannot be used; the others may be. ``reason`` continues "line 3: "."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def invalid(what: str, remedy: str) -> DatasetInvalidError:
    """The error of a dataset that cannot be read: ``what`` continues "The dataset cannot be used: "."""
    return DatasetInvalidError(f"The dataset cannot be used: {what}.", field="dataset", remedy=remedy)
