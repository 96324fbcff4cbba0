"""Records that cannot be used: left out and told, or too many of them to go on."""

from __future__ import annotations

from collections import Counter

from qpruner_core.errors import DatasetInvalidError

MOST_SHARE = 0.1
"""The share of records that may be left out, ..."""
A_FEW = 3
"""... and how many may be in any case, if something is left."""
_SHOWN = 3


class LeftOut:
    """Counts what is left out, and keeps the first places and the most frequent reasons."""

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
        """Refuse the dataset where nothing is left, or more than a few and a tenth of it cannot be used.

        Raises:
            DatasetInvalidError: names the first of them.
        """
        if self.count and (used == 0 or self.count > max(A_FEW, MOST_SHARE * total)):
            where, reason = self._first[0]
            others = f"; so it is with {self.count} of {total} records" if total > 1 else ""
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
