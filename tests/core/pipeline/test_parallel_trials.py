"""Several processes measure trials as one does, and are gone when the run is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.errors import QPrunerError
from qpruner_core.events import Event, StageProgress, StageStarted, TrialRecorded
from tests.core.pipeline.conftest import FinishedRun, search_again, without_seconds
from tests.server_processes import wait_until

BRIEF: dict[str, Any] = {"objective": "recovered", "prior": "none", "recovery_steps": 2, "trials": 4}
TWO: dict[str, Any] = {"batch": 3, "workers": 2}


def workers_of(parent: int) -> list[psutil.Process]:
    """The processes below ``parent`` that measure trials, and are alive."""
    below = [child for child in psutil.Process(parent).children(recursive=True) if child.status() != "zombie"]
    return [process for process in below if "spawn_main" in " ".join(process.cmdline())]


@pytest.mark.parametrize("settings", [{"front_points": 2}, BRIEF])
def test_the_number_of_processes_changes_no_trial(
    settings: dict[str, Any], finished_run: FinishedRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = search_again(finished_run, tmp_path / "one", **settings, batch=3).trials
    capfd.readouterr()
    two = search_again(finished_run, tmp_path / "two", **settings, **TWO).trials
    assert "gemm_4bit_forward" not in capfd.readouterr().err  # of importing bitsandbytes, in each process
    assert len(one) > 3
    assert without_seconds(one) == without_seconds(two)
    assert not workers_of(os.getpid())


def test_a_process_that_is_killed_ends_the_run_with_what_to_do(finished_run: FinishedRun, tmp_path: Path) -> None:
    seen: list[int] = []

    def kill_the_workers(event: Event) -> None:
        if isinstance(event, TrialRecorded):
            processes = workers_of(os.getpid())
            seen.append(len(processes))
            for process in processes:
                process.kill()

    with pytest.raises(QPrunerError) as caught:
        search_again(finished_run, tmp_path / "out", on_event=kill_the_workers, **TWO)
    assert seen[0] == 2  # a trial that was measured already may be recorded after it
    assert caught.value.field == "allocate.workers"
    assert "-9" in caught.value.message


def test_what_goes_wrong_in_a_process_is_the_error_of_the_run(finished_run: FinishedRun, tmp_path: Path) -> None:
    work = tmp_path / "out.work"

    def remove_the_model(event: Event) -> None:
        if isinstance(event, StageStarted):
            shutil.rmtree(work / "fits")
        elif isinstance(event, StageProgress) and event.message == "quantizing":  # this process has read it
            (work / "prune" / "model" / "config.json").unlink(missing_ok=True)

    with pytest.raises((QPrunerError, OSError)) as caught:
        search_again(finished_run, tmp_path / "out", on_event=remove_the_model, **BRIEF, **TWO)
    assert any("trial_workers.py" in note for note in caught.value.__notes__)
    assert not workers_of(os.getpid())


def test_the_processes_end_when_their_parent_is_killed(finished_run: FinishedRun, tmp_path: Path) -> None:
    """Of a program that compresses in its main module, and is killed as soon as it tells of a trial."""
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\n"
        "from qpruner_core import CompressionConfig, compress\n"
        "if __name__ == '__main__':\n"
        f"    config = CompressionConfig.model_validate_json({_two_workers(finished_run)!r})\n"
        f"    compress(config, Path({str(tmp_path / 'out')!r}), on_event=lambda event: print(event.type, flush=True))\n"
    )
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert "trial\n" in iter(parent.stdout.readline, "")
    workers = workers_of(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert len(workers) == 2
    assert wait_until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


def _two_workers(run: FinishedRun) -> str:
    settings = run.config.allocate.model_dump(mode="json") | TWO | {"trials": 500}
    config = run.config.model_copy(update={"allocate": AllocateConfig.model_validate(settings)})
    return config.model_dump_json()


def test_more_workers_than_a_batch_has_work_for_are_refused() -> None:
    with pytest.raises(ValueError, match="set batch to at least 4"):
        AllocateConfig(workers=4, batch=2)
