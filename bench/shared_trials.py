"""Measures the search of one job by one worker and by two that share its trials, each on one thread.

    python -m bench.shared_trials [--trials 33] [--batch 8] [--steps 30]

On the tiny model of the tests, with the paper's objective: a trial is a brief recovery. Prints the seconds of the stage
allocate, who measured how many trials, and whether the files are the same. Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.jobs.models import StageResult
from app.jobs.trial_work import TrialWork
from bench.study.machine import made_by
from tests.tiny_model import build_tiny_llama, write_text_dataset
from tests.worker.installation import TINY, Installation, run_installation

_CHECKPOINTS = ("mixed.tar", "merged.tar")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=33, help="of the search (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="proposed at once (%(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="of each trial's recovery (%(default)s)")
    given = parser.parse_args()
    search = {
        "objective": "recovered", "prior": "none", "recovery_steps": given.steps, "trials": given.trials,
        "batch": given.batch, "random_seeds": 1,
    }  # fmt: skip
    print(made_by("python -m bench.shared_trials"))
    with tempfile.TemporaryDirectory(prefix="qpruner-shared-") as directory:
        root = Path(directory)
        build_tiny_llama(root / "model", train_steps=20)
        write_text_dataset(root / "prose.txt", max_bytes=60_000)
        config = {"model": str(root / "model"), "dataset": str(root / "prose.txt"), **TINY, "allocate": search}
        alone, files = _measure(root / "one", config, workers=1)
        together, same = _measure(root / "two", config, workers=2)
    print(f"two workers take {together / alone:.2f} of the time of one; the same files: {files == same}")


def _measure(root: Path, config: dict[str, Any], workers: int) -> tuple[float, dict[str, str]]:
    """Seconds of the search, and SHA-256 of the checkpoints."""
    root.mkdir()
    with run_installation(root, {"share_trials": workers > 1}) as installation:
        installation.start_worker()
        job_id = installation.submit(config)
        installation.wait_for(job_id, "running")
        for _ in range(workers - 1):
            installation.start_worker()
        job = installation.wait_for(job_id, "succeeded", "failed", seconds=3600)
        if job.status != "succeeded":
            raise SystemExit(installation.describe(job_id))
        with installation.sessions() as session:
            seconds = session.get_one(StageResult, (job_id, "allocate")).seconds
        print(f"{workers} worker{'s' * (workers > 1)}: {seconds:.1f} s{_shares(installation, job_id)}", flush=True)
        found = installation.artifacts(job_id)
        return seconds, {name: found[name] for name in _CHECKPOINTS}


def _shares(installation: Installation, job_id: str) -> str:
    with installation.sessions() as session:
        owners = Counter(session.scalars(select(TrialWork.lease_owner).where(TrialWork.job_id == job_id)))
    return "".join(f", {count} trials by {owner}" for owner, count in owners.items())


if __name__ == "__main__":
    main()
