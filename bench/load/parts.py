"""Processes that a measurement needs: the service, bare servers beside it, workers. All end with the block."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from app.embedded import settings_environment
from app.settings import Settings
from tests.postgres import NoPostgresError, fresh_database, run_postgres
from tests.server_processes import free_port, start_server, wait_until
from tests.tiny_model import build_tiny_llama, write_text_dataset

_READY_SECONDS = 180


@dataclass(frozen=True)
class Served:
    """A running service: where it is, its settings, the folder with ``model`` and ``text.txt``, its process."""

    url: str
    settings: Settings
    sources: Path
    pid: int
    processes: ExitStack
    folder: Path

    def start(self, module: str, *arguments: str, name: str) -> int:
        """Run ``python -m module`` beside it with the same settings; its process id."""
        command = [sys.executable, "-m", module, *arguments]
        environment = settings_environment(self.settings) | {"PYTHONPATH": str(Path.cwd())}
        return start_server(self.processes, command, self.folder / f"{name}.log", environment=environment).pid


Database = Callable[[], AbstractContextManager[str | None]]
"""Makes a database for one service, as its URL; ``None``: the embedded default. A store belongs to one database."""


@contextmanager
def databases(wanted: str) -> Iterator[dict[str, Database]]:
    """``sqlite`` and ``postgresql``, or one of them."""
    with ExitStack() as stack:
        found: dict[str, Database] = {} if wanted == "postgresql" else {"sqlite": nullcontext}
        if wanted != "sqlite":
            try:
                server = stack.enter_context(run_postgres())
                found["postgresql"] = lambda: fresh_database(server)
            except NoPostgresError as error:
                print(f"PostgreSQL is left out: {error}")
        yield found


@contextmanager
def served(database_url: str | None, **changed: object) -> Iterator[Served]:
    """``qpruner serve`` without a worker on a fresh folder, with Valkey, once it is warm."""
    with tempfile.TemporaryDirectory(prefix="qpruner-load-") as name, ExitStack() as processes:
        folder = Path(name)
        sources = folder / "sources"
        sources.mkdir()
        build_tiny_llama(sources / "model", train_steps=0)
        write_text_dataset(sources / "text.txt")
        settings = Settings(
            data_dir=folder / "data", cache_dir=folder / "cache", database_url=database_url, port=free_port(),
            allowed_roots=(sources,), allow_hub=False, max_queued_jobs=1_000_000, log_level="WARNING",
            max_streams=100_000, signing_key=SecretStr("a key for a service that lives for minutes"),
        ).model_copy(update=changed)  # fmt: skip
        environment = settings_environment(settings) | {"PYTHONPATH": str(Path.cwd())}
        command = [sys.executable, "-m", "app.cli", "serve", "--no-worker"]
        log = folder / "serve.log"
        process = start_server(processes, command, log, environment=environment)
        url = f"http://127.0.0.1:{settings.port}"
        if not wait_until(lambda: process.poll() is not None or is_warm(url), _READY_SECONDS) or process.poll():
            raise RuntimeError(f"The service did not start: {log.read_text()}")
        yield Served(url, settings, sources, process.pid, processes, folder)


def is_warm(url: str) -> bool:
    """Whether the service there answers, and has loaded what its first submit needs."""
    try:
        return bool(httpx.get(f"{url}/readyz", timeout=10).json()["parts"]["models"]["ready"])
    except (httpx.HTTPError, KeyError):
        return False


def answers(url: str) -> bool:
    """Whether anything answers at ``url``."""
    try:
        httpx.get(url, timeout=5)
    except httpx.HTTPError:
        return False
    return True


def resident_bytes(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
