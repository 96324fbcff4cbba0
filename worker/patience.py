"""Retry while the database or the store is unavailable."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.store import StoreUnavailableError

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 5.0
_OUTAGE_SECONDS = 5.0  # shorter outages are not worth a message
_READ_ONLY = "25006"  # SQLSTATE of a write to a standby, which a failover may promote
_Result = TypeVar("_Result")


class Stopped(Exception):  # noqa: N818 - asked for by whoever set the event
    """The retries ended because ``stop`` was set, or the time was over."""


def is_away(error: Exception) -> bool:
    """Whether ``error`` means that database or store are unavailable for now, not that the request was wrong."""
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeoutError, StoreUnavailableError)):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or getattr(error.orig, "sqlstate", None) == _READ_ONLY
    return False


def persist(
    action: Callable[[], _Result], what: str, stop: threading.Event, seconds: float | None = None,
    on_outage: Callable[[Exception], bool] | None = None,
) -> _Result:  # fmt: skip
    """The result of ``action``, retried with growing pauses while database or store are unavailable.

    After five seconds, ``on_outage`` is called with every error until it returns true.

    Raises:
        Stopped: ``stop`` was set, or ``seconds`` have passed since the first failure; the last try did not happen.
    """
    failures, since, told = 0, 0.0, on_outage is None
    while not stop.is_set():
        try:
            result = action()
        except Exception as error:
            if not is_away(error):
                raise
            if failures == 0:
                since = time.monotonic()
                _LOG.warning("%s must wait: %s", what, str(error).splitlines()[0])
            if seconds is not None and time.monotonic() - since > seconds:
                raise Stopped(what) from error
            if on_outage is not None and not told and time.monotonic() - since > _OUTAGE_SECONDS:
                told = on_outage(error)
            failures += 1
            stop.wait(min(0.1 * 2 ** min(failures, 10), _LONGEST_PAUSE))
        else:
            if failures:
                _LOG.warning("%s resumes after %.0f s", what, time.monotonic() - since)
            return result
    raise Stopped(what)
