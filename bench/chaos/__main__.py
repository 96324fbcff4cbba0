"""Kills every part of the service while jobs run, and fails unless nothing was lost, doubled, failed or left over.

    python -m bench.chaos [--column embedded|scale|both] [--minutes N] [--jobs N] [--kills N] [--real N] [--seed N]

Linux only. Another run with the same seed brings the same parts down at the same moments.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

from sqlalchemy import func, select

from app.database import create_session_factory, utc_now
from app.jobs.models import TERMINAL, Job
from app.store import open_store
from bench.chaos.columns import COLUMNS, LEASE_SECONDS, Column, running
from bench.chaos.schedule import Blow, plan_blows
from bench.chaos.submitting import Submitter
from bench.chaos.verdict import Interruption, Verdict, judge
from bench.load.parts import is_warm
from tests.server_processes import wait_until
from worker.job_run import Parts
from worker.supervisor import Supervisor

_LONGEST_DOWN = LEASE_SECONDS
_SHARE_OF_SUBMITS = 0.8  # of the time: the last jobs meet kills, too


def main() -> int:
    """Parse, run, print; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--column", choices=(*COLUMNS, "both"), default="both")
    parser.add_argument("--minutes", type=float, default=4.0, help="of kills, per column (%(default)s)")
    parser.add_argument("--jobs", type=int, default=40, help="per column (%(default)s)")
    parser.add_argument("--kills", type=int, default=8, help="of each part (%(default)s)")
    parser.add_argument("--real", type=int, default=3, help="jobs that go through the real pipeline (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="%(default)s")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds for the rest of the jobs (%(default)s)")
    given = parser.parse_args()
    faults = 0
    for name in COLUMNS if given.column == "both" else (given.column,):
        with running(name, given.seed, given.workers) as column:
            print(f"\n{name}: {given.jobs} jobs, of which {given.real} real; {given.kills} kills of each of "
                  f"{', '.join(column.targets)}", flush=True)  # fmt: skip
            faults += _report(_run(column, given))
    return 1 if faults else 0


def _run(column: Column, given: argparse.Namespace) -> Verdict:
    seconds = 60.0 * given.minutes
    submitter = Submitter(column.service, given.jobs, given.real, _SHARE_OF_SUBMITS * seconds)
    submitter.start()
    interruptions = _strike(column, plan_blows(given.seed, list(column.targets), given.kills, seconds, _LONGEST_DOWN))
    until = time.monotonic() + given.patience
    _wait(column, lambda: is_warm(column.service.url), until)
    _wait(column, lambda: not submitter.is_alive(), until)
    _wait(column, lambda: _unfinished(column) == 0, until)
    return _judge(column, submitter, interruptions)


def _wait(column: Column, is_over: Callable[[], bool], until: float) -> None:
    """Wait until ``is_over``, at most until then, and restart meanwhile what ends by itself."""

    def look() -> bool:
        _revive(column)
        return is_over()

    wait_until(look, max(1.0, until - time.monotonic()), every=0.5)


def _revive(column: Column) -> None:
    for target in column.targets.values():
        target.revive()


def _strike(column: Column, blows: list[Blow]) -> list[Interruption]:
    """Bring parts down and up when it is their time, from the main thread: what a thread started ends with it."""
    steps = [(blow.at, False, blow.kind) for blow in blows] + [(blow.at + blow.down, True, blow.kind) for blow in blows]
    begin, found = time.monotonic(), list[Interruption]()
    for at, is_up, kind in sorted(steps):
        time.sleep(max(0.0, begin + at - time.monotonic()))
        _revive(column)
        target = column.targets[kind]
        if is_up:
            target.up()
        else:
            now = utc_now()
            found += [Interruption(kind, now, job_id) for job_id in target.down()]
    return found


def _unfinished(column: Column) -> int:
    with column.reading() as session:
        return session.scalar(select(func.count()).select_from(Job).where(Job.status.not_in(TERMINAL))) or 0


def _judge(column: Column, submitter: Submitter, interruptions: list[Interruption]) -> Verdict:
    settings = column.service.settings
    store = open_store(settings, column.engine)
    Supervisor(Parts(settings, create_session_factory(column.engine), store)).sweep()  # what the killed left
    with column.reading() as session:
        verdict = judge(session, store, submitter.submits, interruptions)
    for fault in submitter.submits.faults:
        print(f"  answer to a submit: {fault}")
    if missing := submitter.count - len(submitter.submits.jobs):
        verdict.lost.append(f"{missing} jobs could not be submitted")
    return verdict


def _report(verdict: Verdict) -> int:
    seconds = sorted(verdict.seconds)
    for name, found in {
        "lost": verdict.lost, "done twice": verdict.done_twice, "wrongly failed": verdict.wrongly_failed,
        "files without a row": verdict.without_row, "rows without a file": verdict.without_file,
    }.items():  # fmt: skip
        print(f"  {name:24} {len(found)}")
        for fault in found[:20]:
            print(f"    {fault}")
    print(f"  attempts of all jobs     {verdict.attempts}")
    if seconds:
        p95 = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
        print(f"  kill → running again     p50 {median(seconds):.1f} s, p95 {p95:.1f} s, longest {seconds[-1]:.1f} s "
              f"({len(seconds)} kills; two leases are {2 * LEASE_SECONDS:.0f} s)")  # fmt: skip
    sys.stdout.flush()
    return verdict.faults


if __name__ == "__main__":
    sys.exit(main())
