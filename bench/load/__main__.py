"""Measures the service under load, each figure beside the least that could do the same thing, in the same run.

    python -m bench.load [--database sqlite|postgresql|both] [--only submit,streams,download,queue] [--streams N] …

Absolute figures are of the machine and of what else it does; the ratios are what to look at. Linux only.
"""

from __future__ import annotations

import argparse
import resource
from statistics import median

from bench.load.downloading import measure_downloading
from bench.load.parts import Served, databases, served
from bench.load.queueing import measure_queueing
from bench.load.streaming import measure_streaming
from bench.load.submitting import measure_submitting

_KINDS = ("submit", "streams", "download", "queue")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--only", default=",".join(_KINDS), help="comma-separated: %(default)s")
    parser.add_argument("--clients", type=int, default=8, help="that submit at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=6, help="of each kind (%(default)s)")
    parser.add_argument("--streams", type=int, help="open at once; by default 1000 on SQLite and 5000 on PostgreSQL")
    parser.add_argument("--megabytes", type=int, default=256, help="of the file that is downloaded (%(default)s)")
    parser.add_argument("--samples", type=int, default=10, help="of starts and round trips (%(default)s)")
    parser.add_argument("--flood", type=int, default=20, help="jobs of the tenant that floods (%(default)s)")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with databases(given.database) as found:
        for name, database in found.items():
            for kind in given.only.split(","):
                with database() as url, served(url) as service:
                    print(f"\n{kind}, {name}", flush=True)
                    _MEASURE[kind](service, given, name)


def _submit(service: Served, given: argparse.Namespace, name: str) -> None:
    found = measure_submitting(service, given.clients, given.seconds, given.turns)
    bare, *ours = found.items()
    print(f"  {bare[0]:34} {bare[1]}")
    for label, timings in ours:
        print(f"  {label:34} {timings}: {timings.rate / bare[1].rate:.2f} of the bare endpoint's rate (goal 0.50)")


def _streams(service: Served, given: argparse.Namespace, name: str) -> None:
    count = given.streams or (1000 if name == "sqlite" else 5000)
    found = measure_streaming(service, count, given.seconds * given.turns)
    delays = sorted(found.delivered) or [float("nan")]
    print(f"  {found.opened} of {found.streams} streams open")
    print(f"  GET /jobs without streams          {found.alone}")
    print(f"  GET /jobs beside them              {found.beside} (goal: p99 below 100 ms)")
    print(
        f"  event to stream                    p50 {median(delays):.0f} ms, p99 "
        f"{delays[int(0.99 * (len(delays) - 1))]:.0f} ms ({len(found.delivered)} delivered)"
    )


def _download(service: Served, given: argparse.Namespace, name: str) -> None:
    found = measure_downloading(service, given.megabytes * 2**20, given.turns)
    print(
        f"  signed download                  {found.ours / 1e6:7.0f} MB/s: {found.ours / found.theirs:.2f} (goal 0.70)"
    )
    print(f"  {found.beside:34} {found.theirs / 1e6:6.0f} MB/s")
    print(f"  memory of the service grew by      {found.grown_bytes / 2**20:.1f} MiB")


def _queue(service: Served, given: argparse.Namespace, name: str) -> None:
    found = measure_queueing(service, given.samples, given.flood)
    start, bare = median(found.starts), median(found.round_trips)
    print(f"  start of a queued job              {start:.0f} ms, {start - bare:+.0f} ms (goal +50)")
    print(f"  bare Celery round trip             {bare:.0f} ms")
    waits = ", ".join(f"{seconds:.1f}" for seconds in found.waits)
    print(f"  waits beside a flood of {found.flood:<10} {waits} s (goal: one job's time, {found.job_seconds:.1f} s)")


_MEASURE = {"submit": _submit, "streams": _streams, "download": _download, "queue": _queue}

if __name__ == "__main__":
    main()
