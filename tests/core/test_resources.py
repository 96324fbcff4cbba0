from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import torch
from pathlib import Path
from qpruner_core.resources import freed_blocks_returned

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if "RssAnon" in line)

with freed_blocks_returned():
    torch.ones(2**22)  # freed at once, after which glibc alone would keep blocks of this size
    tensors = [torch.ones(2**20) for _ in range(64)]  # 4 MiB each
    held = anonymous()
    del tensors[:-1]  # the last keeps the end of the heap in use
    print(held - anonymous())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and is about glibc")
def test_freed_tensors_go_back_to_the_system_though_a_later_one_is_still_held() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 200 * 1024
