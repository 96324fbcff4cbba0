"""A TCP proxy whose cable can be pulled: the server behind it is unavailable, and comes back as it was."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Cable:
    """Forwards connections on ``port`` of 127.0.0.1 to another port of it, while it is plugged in."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._plugged = True
        self._open: list[socket.socket] = []
        self.refused = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connected(self) -> bool:
        """Whether a connection was made since the cable was last plugged in."""
        return bool(self._open)

    def pull(self) -> None:
        """Break every connection, and every new one."""
        with self._lock:
            self._plugged = False
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._open.clear()

    def plug_in(self) -> None:
        """Let new connections through again."""
        self._plugged = True

    def close(self) -> None:
        """Free the port."""
        self._listener.close()
        self.pull()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._plugged:
                    self.refused += 1
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_forward, args=(source, sink), daemon=True).start()


@contextmanager
def severable(target: int) -> Iterator[Cable]:
    """A cable to ``target``, plugged in."""
    cable = Cable(target)
    try:
        yield cable
    finally:
        cable.close()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
