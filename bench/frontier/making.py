"""Running what makes a checkpoint, with its time limit and what it took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bench.frontier.rows import Cost

_METERED = Path(__file__).with_name("metered.py")
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1",
}  # fmt: skip
TOO_LONG = "it takes more than"
"""How the failure of what was ended at its limit begins."""
_SIGNALS = 128
_ENDED = {256 - signal.SIGXCPU, 256 - signal.SIGKILL}
"""Exit statuses of what the system ended at its limit."""
_running: set[subprocess.Popen[bytes]] = set()


class MakingError(Exception):
    """A tool ended without a checkpoint; it says why, in its own words."""


def run_metered(command: Sequence[str], log: Path, limit: int = 0) -> Cost:
    """Run ``command`` on one thread, its output in ``log``.

    Raises:
        MakingError: it failed, or took more than ``limit`` CPU-seconds (0: as many as it likes).
    """
    cost = log.with_suffix(".cost")
    cost.unlink(missing_ok=True)
    metered = [sys.executable, "-I", str(_METERED), str(cost), str(limit), *command]
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(  # noqa: S603 - what the benchmark is made of
            metered, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | _ENVIRONMENT, start_new_session=True
        )
        _running.add(process)
        try:
            status = process.wait()
        except BaseException:
            end_running()
            raise
        finally:
            _running.discard(process)
    if not cost.is_file():
        raise MakingError(_last_line(log))
    found = Cost.model_validate_json(cost.read_bytes())
    if limit and status in _ENDED:
        raise MakingError(f"{TOO_LONG} {limit} CPU-seconds")
    if status > _SIGNALS:
        raise MakingError(f"it was ended by signal {256 - status}, perhaps for want of memory")
    if status:
        raise MakingError(_last_line(log))
    return found


def end_running() -> None:
    """End every program that is running, with all that it started."""
    for process in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["it says nothing"])[-1][:300]
