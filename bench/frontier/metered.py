"""Run a command and write what it took: ``python -I metered.py COST.json LIMIT COMMAND…``; exits with its status.

``LIMIT``: CPU-seconds after which the system ends it; 0: none.

Uses the standard library alone, and little memory: until it calls another program, a process counts the memory of the
one that started it as its own.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Run the command; its exit status, negative for a signal."""
    cost, limit, *command = sys.argv[1:]
    if int(limit):
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
    started = time.perf_counter()
    status = subprocess.run(command).returncode  # noqa: S603 - what the benchmark asked for
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds": time.perf_counter() - started,
        "peak_bytes": used.ru_maxrss * 1024,
    }
    Path(cost).write_text(json.dumps(figures) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
