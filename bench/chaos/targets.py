"""What is brought down and up again: server processes, workers, children of jobs, a folder."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

import psutil

from app.settings import Settings
from tests.server_processes import start_server, wait_until
from tests.worker.installation import children_of

_TRIES = 20


class Target(Protocol):
    """A part of the service. ``down`` returns the ids of the jobs that it interrupts, as far as it knows them."""

    def down(self) -> list[str]: ...

    def up(self) -> None: ...

    def revive(self) -> None:
        """Do what the supervisor of a part does: start what is up and has ended by itself."""


class Server:
    """A process that is killed, and started again as it was."""

    def __init__(self, process: psutil.Process, processes: ExitStack, log: Path) -> None:
        self._command, self._environment = process.cmdline(), process.environ()
        user = process.username()
        self._user = None if user == psutil.Process().username() else user
        self._processes = processes
        self._log = log
        self._number = 0
        self._is_up = True
        self.process = process

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self.process.pid

    def down(self) -> list[str]:
        """Kill it, with none of its children; those that survive it are no fault of ours."""
        self._is_up = False
        with suppress(psutil.NoSuchProcess):
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)
        return []

    def up(self) -> None:
        """Start it, and again if it ends at once: what the killed one held may be released a moment later."""
        self._is_up = True
        for _ in range(_TRIES):
            self._number += 1
            log = self._log.with_name(f"{self._log.stem}-{self._number}.log")
            started = start_server(self._processes, self._command, log, environment=self._environment, user=self._user)
            if not wait_until(lambda: started.poll() is not None, 0.5):  # noqa: B023 - asked at once
                self.process = psutil.Process(started.pid)
                return
        raise RuntimeError(f"{self._command[0]} does not start again: {log.read_text()[-2000:]}")

    def revive(self) -> None:
        """Start it again if it has ended: without its database, the API does not start."""
        if self._is_up and (not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE):
            self.up()


class Workers:
    """Several workers, of which one at a time is killed. ``working_on``: the job that a worker's process works on."""

    def __init__(self, servers: list[Server], chance: random.Random, working_on: Callable[[int], list[str]]) -> None:
        self._servers = servers
        self._chance = chance
        self._working_on = working_on
        self._killed: Server | None = None

    def down(self) -> list[str]:
        self._killed = self._chance.choice(self._servers)
        jobs = self._working_on(self._killed.pid)
        self._killed.down()
        return jobs

    def up(self) -> None:
        if self._killed is not None:
            self._killed.up()

    def revive(self) -> None:
        for server in self._servers:
            server.revive()


class Children:
    """The process of a job that happens to run."""

    def __init__(self, settings: Settings, chance: random.Random) -> None:
        self._settings = settings
        self._chance = chance

    def down(self) -> list[str]:
        pids = children_of(self._settings)
        if not pids:
            return []
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._chance.choice(pids))
            job_id = Path(process.environ()["TMPDIR"]).parent.name
            process.send_signal(signal.SIGKILL)
            return [job_id]
        return []

    def up(self) -> None:
        """Its supervisor does that."""

    def revive(self) -> None:
        """Its supervisor does that."""


class KeptServer:
    """A process that ``parent`` starts again by itself. ``name``: a part of its program's."""

    def __init__(self, parent: Server, name: str) -> None:
        self._parent = parent
        self._name = name

    def down(self) -> list[str]:
        with suppress(psutil.NoSuchProcess):
            for process in self._parent.process.children(recursive=True):
                if self._name in process.name():
                    process.send_signal(signal.SIGKILL)
        return []

    def up(self) -> None:
        """Its parent does that."""

    def revive(self) -> None:
        """Its parent does that."""


class Folder:
    """A folder that is moved away, as a disk that is not mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._away = folder.with_name(f"{folder.name}.away")

    def down(self) -> list[str]:
        self._folder.rename(self._away)
        return []

    def up(self) -> None:
        """Put it back; whatever was made in its place is a fault, and this fails."""
        self._away.rename(self._folder)

    def revive(self) -> None:
        """A folder does not end."""
