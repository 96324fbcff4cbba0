"""Deadlines for network reads, which also hold for servers that send a byte now and then, or none.

A client's own timeout applies to the next byte, so reading from a trickling server never ends. Here each read of a
connection checks the deadline of its thread, and whether anyone still waits for the result.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_LOOK_SECONDS = 0.25
"""Seconds that a read may block before the deadline is checked again."""


@dataclass(frozen=True)
class Patience:
    """``deadline`` by :func:`time.monotonic`; ``left``: whether the waiting client is gone."""

    deadline: float
    left: Callable[[], bool]

    @property
    def seconds(self) -> float:
        """Remaining seconds; 0 or less if there are none."""
        return -1.0 if self.left() else self.deadline - time.monotonic()


_patience: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextmanager
def patience(seconds: float, left: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Context manager: every read of this thread through a :func:`make_patient` client fails with the client's own
    timeout after ``seconds``, or when ``left()`` is true."""
    token = _patience.set(Patience(time.monotonic() + seconds, left))
    try:
        yield
    finally:
        _patience.reset(token)


def out_of_patience() -> bool:
    """Whether the deadline of this thread is over, or the waiting client is gone."""
    current = _patience.get()
    return current is not None and current.seconds <= 0


def make_patient(client: Any) -> Any:
    """Make every connection of ``client``, a synchronous one of httpx (or of its successor in the hub's library), obey
    the deadline of :func:`patience`; returns it.

    The client has no parameter for a network backend once its proxies and certificates are set up, so it is set on its
    connection pools.
    """
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None and not isinstance(pool._network_backend, _Backend):
            core = importlib.import_module(type(pool).__module__.partition(".")[0])
            pool._network_backend = _Backend(pool._network_backend, core)
    return client


class _Backend:
    """A network backend whose connections are :class:`_Stream`."""

    def __init__(self, inner: Any, core: Any) -> None:
        self._inner = inner
        self._core = core

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> _Stream:
        timeout = _within(timeout, self._core.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, timeout=timeout, **options), self._core)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Stream:
    """A connection that is read in short intervals."""

    def __init__(self, inner: Any, core: Any) -> None:
        self._inner = inner
        self._core = core

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if _patience.get() is None:
            return bytes(self._inner.read(max_bytes, timeout))
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            turn = min(_LOOK_SECONDS, _within(timeout, self._core.ReadTimeout) or _LOOK_SECONDS)
            try:
                return bytes(self._inner.read(max_bytes, turn))
            except self._core.ReadTimeout:
                if until is not None and time.monotonic() >= until:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _within(timeout, self._core.WriteTimeout))

    def start_tls(self, *arguments: Any, timeout: float | None = None, **options: Any) -> _Stream:
        timeout = _within(timeout, self._core.ConnectTimeout)
        return _Stream(self._inner.start_tls(*arguments, timeout=timeout, **options), self._core)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _within(timeout: float | None, over: type[Exception]) -> float | None:
    """The shorter of ``timeout`` and the remaining time; raises ``over`` if there is none."""
    current = _patience.get()
    if current is None:
        return timeout
    seconds = current.seconds
    if seconds <= 0:
        raise over("The deadline is over, or nobody waits any more.")
    return seconds if timeout is None else min(timeout, seconds)


@functools.cache
def patient_hub_client() -> None:
    """Make the client that ``huggingface_hub`` creates for this process obey deadlines."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    set_client_factory(lambda: make_patient(default_client_factory()))
