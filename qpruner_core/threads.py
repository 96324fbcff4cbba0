"""CPU threads: their number in a process, and how they wait for work.

OpenMP and BLAS libraries read this from the environment once, when torch or NumPy loads them. So this module imports
neither, and :func:`qpruner_core.program.settle_program` must be called before the first import of torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qpruner_core.control_group import PROCESS, cpu_quota

_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000", "OPENBLAS_THREAD_TIMEOUT": "4"}
"""Waiting threads sleep. By default those of GNU's OpenMP (in torch's wheels) and of OpenBLAS (in NumPy's) spin for a
while, and beside other busy processes they take the time of the very threads that they wait for. LLVM's and Intel's
OpenMP obey the same variable; OpenBLAS's is the logarithm of a number of cycles, at least 4. A tenth of a millisecond
of spinning, which is what GNU's OpenMP gets here, spares most of the cost of sleeping and costs the others little."""


def usable_cpus(process: Path = PROCESS) -> int:
    """CPUs that this process may use: those of its affinity, or fewer if its control groups have a time quota.

    Part of a CPU counts as one: with a quota of 1.5, two threads are faster than one.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(process)
    return affinity if quota is None else min(affinity, math.ceil(quota))


def thread_settings(environment: Mapping[str, str], threads: int = 0) -> dict[str, str]:
    """Variables to add to ``environment`` for a process that computes on ``threads`` threads.

    With 0 the number is that of ``OMP_NUM_THREADS`` in ``environment``, else of :func:`usable_cpus`. Wait settings in
    ``environment`` are kept.
    """
    asked = dict.fromkeys(_NUMBER, str(threads)) if threads else {}
    defaults = {"OMP_NUM_THREADS": str(usable_cpus())} | _WAITING
    if environment.get("OMP_WAIT_POLICY", "PASSIVE").upper() != "PASSIVE":
        del defaults["GOMP_SPINCOUNT"]  # it would take precedence
    return {name: value for name, value in defaults.items() if not environment.get(name)} | asked


@contextmanager
def starting_processes(threads: int) -> Iterator[None]:
    """Context manager in which started processes compute on ``threads`` threads; this one is unchanged."""
    before = dict(os.environ)
    added = thread_settings(before, threads)
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
