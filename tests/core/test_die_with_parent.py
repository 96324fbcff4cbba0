"""A process that is to die with its parent does, whenever the parent dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qpruner_core import die_with_parent as module
from qpruner_core.die_with_parent import dying_with_parent
from tests.server_processes import wait_until

PARENT = """
import os, subprocess, sys, time
from qpruner_core.die_with_parent import dying_with_parent
started = subprocess.Popen(dying_with_parent(sys.argv[2:], {signal}), start_new_session=True, stdout=subprocess.DEVNULL)
print(started.pid, flush=True)
time.sleep(float(sys.argv[1]))
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asked of the kernel of Linux only")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.02, 0.1, 0.5])
def test_it_dies_with_a_parent_that_dies_at_any_moment_after_its_start(seconds: float, number: signal.Signals) -> None:
    command = [sys.executable, "-c", "import json, asyncio, ctypes, time; time.sleep(60)"]
    parent = subprocess.run(
        [sys.executable, "-c", PARENT.format(signal=int(number)), str(seconds), *command],
        stdout=subprocess.PIPE, check=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert wait_until(lambda: _is_gone(int(parent.stdout)), 10)


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_its_command_is_what_runs() -> None:
    code = "import os, sys; print(sys.argv[1:], os.getppid(), sys.flags.no_site)"
    command = dying_with_parent([sys.executable, "-c", code, "one", "t w o"], signal.SIGTERM)
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert told == f"['one', 't w o'] {psutil.Process().pid} 0\n"


def test_the_request_takes_no_module_from_the_folder_of_its_script() -> None:
    """Other modules of the package may have names of the standard library's."""
    options = dying_with_parent([sys.executable], signal.SIGKILL)
    show = [options[0], *options[1 : options.index(module.__file__)], "-c", "import sys; print(sys.flags.safe_path)"]
    assert subprocess.run(show, stdout=subprocess.PIPE, check=True, text=True).stdout == "True\n"


def test_a_program_that_is_not_there_is_told_before_anything_starts() -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        dying_with_parent(["/no/such/program"], signal.SIGKILL)
