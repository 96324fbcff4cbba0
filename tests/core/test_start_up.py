"""What starting costs: a run is planned, or refused, before the libraries that only stages use are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

_SCRIPT = """
import json, sys
from qpruner_core.program import settle_program
settle_program()
import qpruner_core
assert not {"torch", "transformers", "numpy"} & set(sys.modules), "the package itself is light"
import qpruner_core.pipeline
print(json.dumps(sorted(sys.modules)))
import bitsandbytes
assert "torch._inductor.compile_fx" not in sys.modules, "nothing is compiled"
"""
USED_BY_STAGES = ("bitsandbytes", "peft", "skopt", "sklearn", "scipy.stats", "torch._inductor.compile_fx")


@pytest.fixture(scope="module")
def started() -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "TORCH"))}
    environment["OMP_DISPLAY_ENV"] = "VERBOSE"
    return subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, env=environment, check=True)


def test_the_pipeline_is_imported_without_the_libraries_that_only_stages_use(
    started: subprocess.CompletedProcess[str],
) -> None:
    modules = json.loads(started.stdout)
    assert "torch" in modules
    assert [name for name in USED_BY_STAGES if name in modules] == []


@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels for other systems carry another OpenMP")
def test_torchs_openmp_lets_waiting_threads_sleep(started: subprocess.CompletedProcess[str]) -> None:
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in started.stderr
    assert "GOMP_SPINCOUNT = '10000'" in started.stderr
