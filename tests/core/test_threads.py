from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

from qpruner_core import threads
from qpruner_core.program import settle_program
from qpruner_core.threads import starting_processes, thread_settings, usable_cpus

VARIABLES = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT", "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "TORCHDYNAMO_DISABLE",
)  # fmt: skip


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what the test sets is undone
        monkeypatch.delenv(name)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system knows no affinity")
def test_usable_cpus_are_those_of_the_affinity(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    assert usable_cpus(tmp_path) == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cpus(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"), [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.25, 1), (2, 16.0, 2)]
)
def test_a_quota_leaves_fewer_cpus_than_the_affinity(
    affinity: int, quota: float | None, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(affinity)), raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda process: quota)
    assert usable_cpus() == usable


def test_a_process_computes_on_the_usable_cpus_and_waits_almost_without_spinning() -> None:
    passive = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000", "OPENBLAS_THREAD_TIMEOUT": "4"}
    assert thread_settings({}) == {"OMP_NUM_THREADS": str(usable_cpus())} | passive


def test_what_the_user_has_set_stays() -> None:
    own = {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE", "OPENBLAS_THREAD_TIMEOUT": "20"}
    assert thread_settings(own) == {}
    settings = thread_settings(own | {"MKL_NUM_THREADS": "5"}, 2)
    assert settings == dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")


@pytest.mark.usefixtures("unset")
def test_processes_that_are_started_get_their_share_and_this_one_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    before = dict(os.environ)
    with starting_processes(threads=4):
        assert os.environ["OMP_NUM_THREADS"] == "4"
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert dict(os.environ) == before


@pytest.mark.usefixtures("unset")
def test_settling_leaves_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "0")
    settle_program()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["TORCHDYNAMO_DISABLE"] == "0"


@pytest.mark.usefixtures("unset")
def test_the_command_line_settles_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["qpruner", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("qpruner_core", run_name="__main__")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["OMP_NUM_THREADS"] == str(usable_cpus())
    assert os.environ["TORCHDYNAMO_DISABLE"] == "1"
