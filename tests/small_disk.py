"""A disk that is soon full: a real file system of a fixed size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoSmallDiskError(Exception):
    """No small disk can be had; says why."""


@contextmanager
def mount_small_disk(directory: Path, size: int) -> Iterator[Path]:
    """``directory`` as a file system in memory with room for ``size`` bytes, unmounted afterwards."""
    if sys.platform != "linux":
        raise NoSmallDiskError("a small disk is a Linux tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        raise NoSmallDiskError(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
