"""Supervisors in threads of the test, with children that run a scripted pipeline."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.store import ArtifactStore
from tests.server_processes import wait_until
from tests.worker.installation import Installation
from worker.job_run import Parts
from worker.supervisor import Supervisor

CONFIG: dict[str, Any] = {
    "model": "m", "dataset": "d", "target": "bitsandbytes", "memory_budget": 1000, "allocate": {"trials": 40},
}  # fmt: skip
SCRIPT = str(Path(__file__).with_name("scripted_child.py"))


class Bench:
    """Supervisors in threads, and the folder that directs their children."""

    def __init__(self, installation: Installation, directions: Path) -> None:
        self.installation = installation
        self.directions = directions
        self._threads: list[tuple[Supervisor, threading.Thread]] = []

    def direct(self, stage: str, what: str, text: str = "") -> Path:
        path = self.directions / f"{stage}.{what}"
        path.write_text(text)
        return path

    def parts(self, *, store: ArtifactStore | None = None, host: str | None = None, **settings: Any) -> Parts:
        """What a supervisor works with; ``host`` has a scratch folder of its own."""
        installation = self.installation
        if host is not None:
            settings["data_dir"] = self.directions.parent / host
        command = (sys.executable, SCRIPT, str(self.directions))
        changed = installation.settings.model_copy(update=settings)
        return Parts(changed, installation.sessions, store or installation.store, command)

    def start(self, job_id: str, owner: str = "tester", parts: Parts | None = None) -> Supervisor:
        """Work on the job in a thread."""
        supervisor = Supervisor(parts or self.parts(), owner)
        thread = threading.Thread(target=supervisor.run, args=(job_id,), daemon=True)
        thread.start()
        self._threads.append((supervisor, thread))
        return supervisor

    def join(self, only: Supervisor | None = None) -> None:
        """Wait until every supervisor has let go, or ``only`` one."""
        for supervisor, thread in self._threads:
            if only not in (None, supervisor):
                continue
            thread.join(30)
            assert not thread.is_alive()

    def stop(self) -> None:
        for supervisor, _ in self._threads:
            supervisor.stop()
        self.join()

    def begun(self, stage: str) -> None:
        """Wait until a child has begun ``stage``."""
        assert wait_until((self.directions / f"{stage}.told").exists)


@contextmanager
def run_bench(installation: Installation, directions: Path) -> Iterator[Bench]:
    """A bench whose supervisors have all stopped in the end."""
    directions.mkdir()
    bench = Bench(installation, directions)
    try:
        yield bench
    finally:
        bench.stop()
