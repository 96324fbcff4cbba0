"""Loads the modules that inspect models, in one thread at a time, and before the first request needs them."""

from __future__ import annotations

import importlib
import logging
import threading
from typing import Literal

from qpruner_core.garbage import collector_paused

logger = logging.getLogger(__name__)

_CORE = "qpruner_core.planning"
_STEPS = ("torch", "transformers.modeling_utils", _CORE)
"""In this order, so that a stop waits for one of them instead of all; the last one imports the others."""
_WARM_UP = "qpruner_core.warm_up"
# transformers replaces its own module while it is imported: a second thread that imports from it meanwhile keeps the
# old one, which has no names.
_IMPORTING = threading.Lock()
_LOADED: set[str] = set()


def load_core() -> None:
    """Import the modules that check models and datasets, and torch with them; returns at once when they are loaded.

    Call it before any import of them within a request.
    """
    if _CORE not in _LOADED:
        _load(_CORE)


def _load(module: str) -> None:
    with _IMPORTING, collector_paused():
        importlib.import_module(module)
    _LOADED.add(module)


class WarmUp:
    """A thread that loads the core and plans a made-up model with it, so that no request waits for that.

    Not a daemon, because the process must not end in the middle of an import.
    """

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="warm-up")
        self._stopping = threading.Event()
        self._state: Literal["cold", "warm", "broken"] = "cold"

    @property
    def state(self) -> Literal["cold", "warm", "broken"]:
        """Whether the first inspection is as fast as later ones."""
        return self._state

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Return when everything is loaded, or cannot be."""
        if self._thread.is_alive():
            self._thread.join()

    def stop(self) -> None:
        """Leave the rest undone, and return when no import is in progress any more."""
        self._stopping.set()
        self.finish()

    def _run(self) -> None:
        try:
            for module in _STEPS:
                _load(module)
                if self._stopping.is_set():
                    return
            warm_up = importlib.import_module(_WARM_UP).warm_up
            warm_up()
            self._state = "warm"
        except Exception:  # requests that need it will fail; all others work
            self._state = "broken"
            logger.exception("%s cannot be used", module)
