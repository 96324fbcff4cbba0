"""What is told of a long run: what is done, how long it took, and how long the rest will probably take."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """As ``2 h 05 min``, ``12 min`` or ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """Counts ``rows``, each of those still to come being taken to need the mean of those that were measured; without a
    number it only says what each took."""

    def __init__(self, rows: int | None) -> None:
        self._rows = rows
        self._seen = 0
        self._seconds: list[float] = []

    def skip(self) -> None:
        """A row was there from an earlier run."""
        self._seen += 1

    def done(self, line: str, seconds: float) -> None:
        """A row was measured."""
        self._seen += 1
        self._seconds.append(seconds)
        told = f"{line}, {duration(seconds)}"
        if self._rows is not None:
            left = (self._rows - self._seen) * sum(self._seconds) / len(self._seconds)
            told = f"{self._seen}/{self._rows} {told}; about {duration(left)} left"
        print(told, flush=True)
