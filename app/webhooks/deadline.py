"""A time limit for a whole attempt: httpcore limits each step, and a receiver that trickles never exceeds that."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any

import httpcore

Resolved = list[tuple[Any, ...]]


class Deadline:
    """A time limit, ``seconds`` from now."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self, step: float | None = None) -> float:
        """Seconds left, at most ``step``. Raises :class:`httpcore.TimeoutException` if there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise httpcore.TimeoutException("The attempt took too long.")
        return left if step is None else min(left, step)

    def resolve(self, host: str, port: int) -> Resolved:
        """``socket.getaddrinfo``, whose own limits are the name servers'. Raises :class:`OSError`."""
        found: list[Resolved | OSError] = []

        def look() -> None:
            try:
                found.append(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
            except (OSError, UnicodeError) as error:  # UnicodeError: a label that no name can have
                found.append(error if isinstance(error, OSError) else OSError(0, "not a host name"))

        looking = threading.Thread(target=look, name="webhook-name", daemon=True)
        looking.start()
        looking.join(self.left())
        if not found:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time.")
        if isinstance(found[0], OSError):
            raise found[0]
        return found[0]


class LimitedStream(httpcore.NetworkStream):
    """``stream`` until ``deadline``: each wait of a read or write is for what is left of it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what there is."""
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of ``buffer``. The stream's own ``write`` has a new time limit for every piece that is sent."""
        connection: socket.socket = self._stream.get_extra_info("socket")
        while buffer:
            connection.settimeout(self._deadline.left(timeout))
            buffer = buffer[connection.send(buffer) :]

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same over TLS, with the same deadline."""
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return LimitedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Facts about the connection."""
        return self._stream.get_extra_info(info)
