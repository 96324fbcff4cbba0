"""Unusable records: left out with a warning, or an error if there are too many."""

from __future__ import annotations

from collections import Counter

from qpruner_core.errors import DatasetInvalidError

MOST_SHARE = 0.1
"""Share of records that may be left out."""
A_FEW = 3
"""Number of records that may be left out in any case, if some are left."""
_SHOWN = 3


class LeftOut:
    """Counts records left out, and keeps the first places and the most frequent reasons."""

    def __init__(self, what: str = "record") -> None:
        self._what = what
        self._first: list[tuple[str, str]] = []
        self._remedy = ""
        self._reasons: Counter[str] = Counter()
        self.count = 0

    def add(self, where: str, reason: str, remedy: str = "") -> None:
        """Leave out the record at ``where`` ("line 3")."""
        if len(self._first) < _SHOWN:
            self._first.append((where, reason))
        self._remedy = self._remedy or remedy
        if len(self._reasons) < 100 or reason in self._reasons:
            self._reasons[reason] += 1
        self.count += 1

    def check(self, used: int, total: int, remedy: str) -> None:
        """Reject the dataset if nothing is left, or if more than a few records and a tenth of it are unusable.

        Raises:
            DatasetInvalidError: names the first unusable record.
        """
        if self.count and (used == 0 or self.count > max(A_FEW, MOST_SHARE * total)):
            where, reason = self._first[0]
            others = f"; {self.count} of {total} records are unusable" if total > 1 else ""
            raise DatasetInvalidError(
                f"The dataset cannot be used: {where}: {reason}{others}.",
                field="dataset",
                remedy=self._remedy or remedy,
            )

    def warnings(self) -> list[str]:
        """One sentence, if something was left out."""
        if not self.count:
            return []
        places = ", ".join(where for where, _ in self._first) + (", …" if self.count > len(self._first) else "")
        reasons = "; ".join(reason for reason, _ in self._reasons.most_common(_SHOWN))
        plural = "s were" if self.count > 1 else " was"
        return [f"{self.count} {self._what}{plural} left out ({places}): {reasons}."]
