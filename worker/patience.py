"""Trying again while the database or the store is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from app.store import StoreUnavailableError

AWAY = (OperationalError, InterfaceError, StoreUnavailableError)
_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 5.0
_Result = TypeVar("_Result")


class Stopped(Exception):  # noqa: N818 - asked for by whoever set the event
    """Trying was given up because ``stop`` was set, or the time was over."""


def persist(action: Callable[[], _Result], what: str, stop: threading.Event, seconds: float | None = None) -> _Result:
    """The result of ``action``, tried again with growing pauses for as long as database or store are away.

    Raises:
        Stopped: ``stop`` was set, or ``seconds`` have passed; what was tried last did not happen.
    """
    failures, since = 0, time.monotonic()
    while True:
        try:
            result = action()
        except AWAY as error:
            if failures == 0:
                _LOG.warning("%s must wait: %s", what, str(error).splitlines()[0])
            if seconds is not None and time.monotonic() - since > seconds:
                raise Stopped(what) from error
            failures += 1
            if stop.wait(min(0.1 * 2 ** min(failures, 10), _LONGEST_PAUSE)):
                raise Stopped(what) from error
        else:
            if failures:
                _LOG.warning("%s goes on after %.0f s", what, time.monotonic() - since)
            return result
