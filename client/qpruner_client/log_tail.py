"""New output of a job since the last read."""

from __future__ import annotations

from collections.abc import Sequence

from qpruner_client.models import LogView

INTERVAL = 2.0
"""Seconds between two reads: the interval at which a worker writes the output."""
_PROBE = 64


class LogTail:
    """Follows the output from the last attempt on, including further attempts."""

    def __init__(self) -> None:
        self._attempt = 0
        self._shown = ""

    def take(self, logs: Sequence[LogView], *, ended: bool) -> str:
        """The part of ``logs`` that was not returned before.

        An incomplete last line is held back until its attempt is over, because a progress bar may overwrite it.
        ``ended``: the job has ended.
        """
        if not logs:
            return ""
        if self._attempt == 0 or logs[-1].attempt < self._attempt:  # a retried job starts counting attempts again
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
    """The part of ``now`` after its overlap with ``before``, whose beginning may have been dropped."""
    if now.startswith(before):
        return now[len(before) :]
    start = before.find(now[:_PROBE])
    while start >= 0:
        if now.startswith(before[start:]):
            return now[len(before) - start :]
        start = before.find(now[:_PROBE], start + 1)
    return now
