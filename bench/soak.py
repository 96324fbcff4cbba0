"""Uses a service without a pause, and fails if memory or descriptors of the API or the worker keep growing.

    python -m bench.soak [--minutes N] [--users N]

Linux only. The slope is the median of those between all pairs of samples after warm-up (Theil and Sen), which a single
peak does not move.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median

import psutil

from bench.load.parts import Served, served
from qpruner_client import Client
from tests.worker.installation import TINY

_SAMPLE_SECONDS = 2.0
_MOST_SAMPLES = 400
_MIB = 2**20


@dataclass(frozen=True)
class Bound:
    """What may be grown by: per hour, and in any case in the time that was measured, for short runs are noisy."""

    per_hour: float
    in_any_case: float

    def is_broken_by(self, slope: float, seconds: float) -> bool:
        """Whether ``slope``, per second over ``seconds``, is growth."""
        return slope * 3600 > self.per_hour and slope * seconds > self.in_any_case


_BOUNDS = {"memory, MiB": Bound(per_hour=32, in_any_case=8), "descriptors": Bound(per_hour=16, in_any_case=4)}
_LOOKS: dict[str, Callable[[psutil.Process], float]] = {
    "memory, MiB": lambda process: process.memory_info().rss / _MIB,
    "descriptors": lambda process: process.num_fds(),
}


@dataclass
class Users:
    """Threads that do with the service what its users do, until they are told to stop."""

    service: Served
    stop: threading.Event = field(default_factory=threading.Event)
    jobs: int = 0
    faults: list[str] = field(default_factory=list)

    def use(self, number: int) -> None:
        """Upload, estimate, submit, follow, look, download and delete, over and over."""
        with Client(self.service.url) as client, tempfile.TemporaryDirectory() as folder:
            turn = 0
            while not self.stop.is_set():
                turn += 1
                try:
                    self._once(client, Path(folder), 300_000 + 1000 * number + turn % 1000)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and shown
                    self.faults.append(f"{type(error).__name__}: {error}")
                    self.stop.wait(1.0)

    def _once(self, client: Client, folder: Path, budget: int) -> None:
        sources = self.service.sources
        dataset = client.datasets.upload(sources / "text.txt")
        body = TINY | {"model": str(sources / "model"), "dataset": dataset.id, "memory_budget": budget}
        client.jobs.estimate(**body)
        job = client.jobs.create(**body).wait()
        for look in (job.trials, job.metrics, job.logs, lambda: list(client.jobs.list(limit=20))):
            look()
        job.artifacts.download(to=folder / "file").unlink()
        job.delete()
        client.datasets.delete(dataset.id)
        self.jobs += 1


def main() -> int:
    """Parse, use, print; 1 if something grew or an answer was an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="%(default)s")
    parser.add_argument("--warm-up", type=float, default=0.25, help="share of the time before the slope (%(default)s)")
    parser.add_argument("--users", type=int, default=3, help="at once (%(default)s)")
    given = parser.parse_args()
    with served(None, poll_seconds=0.2) as service:
        directions = service.folder / "directions"
        directions.mkdir()
        worker = service.start("bench.load.worker", str(directions), name="worker")
        processes = {"API": psutil.Process(service.pid), "worker": psutil.Process(worker)}
        users = Users(service)
        threads = [threading.Thread(target=users.use, args=(number,)) for number in range(given.users)]
        for thread in threads:
            thread.start()
        try:
            samples = _sampled(processes, 60 * given.minutes)
        finally:
            users.stop.set()
            for thread in threads:
                thread.join(60)
        print(f"{users.jobs} jobs in {given.minutes:.0f} minutes; {len(users.faults)} errors {users.faults[:3]}")
        return 1 if _report(samples, given.warm_up) or users.faults or not users.jobs else 0


Samples = dict[tuple[str, str], list[tuple[float, float]]]


def _sampled(processes: dict[str, psutil.Process], seconds: float) -> Samples:
    """(second, value) by process and kind."""
    found: Samples = {(name, kind): [] for name in processes for kind in _LOOKS}
    begin = time.monotonic()
    while (now := time.monotonic() - begin) < seconds:
        for name, process in processes.items():
            for kind, look in _LOOKS.items():
                found[name, kind].append((now, look(process)))
        time.sleep(max(_SAMPLE_SECONDS, seconds / _MOST_SAMPLES))
    return found


def _report(samples: Samples, warm_up: float) -> bool:
    """Print a line for each; whether any grew."""
    grew = False
    for (name, kind), points in samples.items():
        measured = points[int(warm_up * len(points)) :]
        slope, seconds = slope_of(measured), measured[-1][0] - measured[0][0]
        broken = _BOUNDS[kind].is_broken_by(slope, seconds)
        grew |= broken
        print(f"{name:8} {kind:12} {measured[0][1]:7.1f} → {measured[-1][1]:7.1f}, {3600 * slope:+8.1f} per hour "
              f"(bound {_BOUNDS[kind].per_hour:.0f}){'  GREW' if broken else ''}")  # fmt: skip
    return grew


def slope_of(points: list[tuple[float, float]]) -> float:
    """Growth per second."""
    return median((right[1] - left[1]) / (right[0] - left[0]) for left, right in combinations(points, 2))


if __name__ == "__main__":
    sys.exit(main())
