"""Loads what a look at a model needs, in one thread at a time, and before the first request asks for it."""

from __future__ import annotations

import importlib
import logging
import threading
from typing import Literal

from qpruner_core.garbage import collector_paused

logger = logging.getLogger(__name__)

_CORE = "qpruner_core.planning"
_WARM_UP = "qpruner_core.warm_up"
# transformers replaces its own module while it is imported: a second thread that imports from it meanwhile keeps the
# old one, which has no names.
_IMPORTING = threading.Lock()


def load_core() -> None:
    """Import what checks models and datasets, and torch with it; returns at once when it is there.

    To be called before any import of it within a request.
    """
    with _IMPORTING, collector_paused():
        importlib.import_module(_CORE)


class WarmUp:
    """A thread that loads the core and plans a made-up model with it, so that no request waits for that.

    It is no daemon, as the process must not end in the middle of an import.
    """

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="warm-up")
        self._state: Literal["cold", "warm", "broken"] = "cold"

    @property
    def state(self) -> Literal["cold", "warm", "broken"]:
        """Whether the first request for a look at a model is answered as fast as the next ones."""
        return self._state

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Return when nothing is under way any more."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            load_core()
            warm_up = importlib.import_module(_WARM_UP).warm_up
            warm_up()
            self._state = "warm"
        except Exception:  # requests that need it will say so; all others are answered
            self._state = "broken"
            logger.exception("%s cannot be used", _CORE)
