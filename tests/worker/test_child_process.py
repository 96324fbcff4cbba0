"""The child is alone with its job, and dies with its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qpruner_core.config import parse_config
from qpruner_core.events import STAGES, StageStarted
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.threads import usable_cpus
from tests.server_processes import wait_until
from tests.worker.bench import CONFIG, SCRIPT
from worker.child_process import ChildProcess, child_environment
from worker.protocol import ChildRequest, RunError, RunResult, StageAnswer, StageWanted

SUPERVISOR = """
import sys, time
from pathlib import Path
from tests.worker.test_child_process import start
print(start(Path(sys.argv[1])).pid, flush=True)
time.sleep(60)
"""


def start(root: Path) -> ChildProcess:
    for name in ("directions", "output", "stages"):
        (root / name).mkdir(exist_ok=True)
    request = ChildRequest(
        config=parse_config(CONFIG), policy=SourcePolicy(), output=root / "output", work_dir=root / "stages"
    )
    environment = child_environment(os.environ, 1, root)
    child = ChildProcess(request, environment, command=(sys.executable, SCRIPT, str(root / "directions")))
    for _ in STAGES:
        child.answer(StageAnswer(found=False))
    return child


def test_what_libraries_print_does_not_mix_with_what_the_child_tells(tmp_path: Path) -> None:
    child = start(tmp_path)
    lines = list(iter(child.lines.get, None))
    assert child.finish(10) == 0
    assert [line.stage for line in lines if isinstance(line, StageWanted)] == list(STAGES)
    assert [line.stage for line in lines if isinstance(line, StageStarted)] == list(STAGES)
    assert isinstance(lines[-1], RunResult)
    assert "a library's chatter" in child.log_tail()
    assert "that of a program it runs" in child.log_tail()


def test_a_named_error_is_the_last_line(tmp_path: Path) -> None:
    (tmp_path / "directions").mkdir()
    (tmp_path / "directions" / "prune.raise").write_text("ModelGatedError")
    child = start(tmp_path)
    *_, last = iter(child.lines.get, None)
    assert isinstance(last, RunError)
    assert (last.code, last.user) == ("model_gated", True)
    child.finish(10)


def test_killing_it_kills_what_it_started_and_a_second_time_nobody(tmp_path: Path) -> None:
    (tmp_path / "directions").mkdir()
    (tmp_path / "directions" / "prune.hold").touch()
    child = start(tmp_path)
    child.lines.get()
    child.kill()
    assert not psutil.pid_exists(child.pid)
    child.kill()
    assert child.finish(1) == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "directions").mkdir()
    (tmp_path / "directions" / "prune.hold").touch()
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert supervisor.stdout
    child = int(supervisor.stdout.readline())
    assert wait_until((tmp_path / "directions" / "prune.told").exists)
    supervisor.send_signal(number)
    supervisor.wait()
    supervisor.stdout.close()
    assert wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", 5)


def test_the_worker_never_loads_torch() -> None:
    code = "import sys, worker.celery_app; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_jobs_process_gets_its_threads_from_its_environment(tmp_path: Path) -> None:
    given = child_environment({"GOMP_SPINCOUNT": "7", "SECRET": "s"}, 0, tmp_path)
    assert given["OMP_NUM_THREADS"] == str(usable_cpus())
    assert given["OMP_WAIT_POLICY"] == "PASSIVE"
    assert given["GOMP_SPINCOUNT"] == "7"
    assert child_environment({"OMP_NUM_THREADS": "3"}, 0, tmp_path)["OMP_NUM_THREADS"] == "3"
    assert child_environment({"OMP_NUM_THREADS": "3"}, 2, tmp_path)["OMP_NUM_THREADS"] == "2"
