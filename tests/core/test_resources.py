from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from qpruner_core.resources import free_memory

_SCRIPT = """
import torch
from pathlib import Path
from qpruner_core.resources import return_freed_memory

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if "RssAnon" in line)

torch.ones(2**22)  # freed at once, after which glibc keeps blocks of this size
tensors = [torch.ones(2**20) for _ in range(64)]  # 4 MiB each
held = anonymous()
del tensors[:-1]  # the last keeps the end of the heap in use
kept = held - anonymous()
return_freed_memory()
print(kept, held - anonymous())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and is about glibc")
def test_freed_tensors_go_back_to_the_system_though_a_later_one_is_still_held() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    by_itself, returned = map(int, done.stdout.split())
    assert by_itself < 50 * 1024
    assert returned > 200 * 1024


def test_what_torch_has_reserved_on_a_gpu_and_not_given_out_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)

    assert free_memory(torch.device("cuda")) == 1300
