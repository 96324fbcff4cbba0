"""What is new of a job's output since it was last looked at."""

from __future__ import annotations

from collections.abc import Sequence

from qpruner_client.models import LogView

INTERVAL = 2.0
"""Seconds between two looks: as often as a worker writes the output down."""
_PROBE = 64


class LogTail:
    """Follows the output from the last attempt on; further attempts come after one another."""

    def __init__(self) -> None:
        self._attempt = 0
        self._shown = ""

    def take(self, logs: Sequence[LogView], *, ended: bool) -> str:
        """What ``logs`` have that was not taken before. A last line without an end is kept back, for a bar of progress
        may overwrite it, until its attempt is over; ``ended``: the job is."""
        if not logs:
            return ""
        if self._attempt == 0 or logs[-1].attempt < self._attempt:  # a job that is retried counts attempts anew
            self._attempt, self._shown = logs[-1].attempt, ""
        new = ""
        for log in logs:
            if log.attempt < self._attempt:
                continue
            if log.attempt > self._attempt:
                self._attempt, self._shown = log.attempt, ""
            over = ended or log is not logs[-1]
            text = log.text if over else log.text[: log.text.rfind("\n") + 1]
            new += _added(self._shown, text)
            self._shown = text
        return new


def _added(before: str, now: str) -> str:
    """What ``now`` has after what it shares with ``before``, whose beginning may be kept no more."""
    if now.startswith(before):
        return now[len(before) :]
    start = before.find(now[:_PROBE])
    while start >= 0:
        if now.startswith(before[start:]):
            return now[len(before) - start :]
        start = before.find(now[:_PROBE], start + 1)
    return now
