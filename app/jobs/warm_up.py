"""Loads what a look at a model needs before the first request asks for one."""

from __future__ import annotations

import importlib
import logging
import threading

logger = logging.getLogger(__name__)

_MODULES = ("torch", "transformers", "qpruner_core.planning")


class WarmUp:
    """A thread that imports, in steps, what takes seconds; :meth:`stop` waits for the step at work, not for the rest.

    The process must not end in the middle of such an import, so the thread is no daemon.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warm-up")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Return when nothing is under way any more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        for module in _MODULES:
            if self._stopping.is_set():
                return
            try:
                importlib.import_module(module)
            except Exception:  # requests that need it will say so; all others are answered
                logger.exception("%s cannot be imported", module)
                return
