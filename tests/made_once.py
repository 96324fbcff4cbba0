"""What all processes of a test run share: the first that needs it makes it, the others wait."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest
from filelock import FileLock

Made = TypeVar("Made")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """What ``make`` returns for a folder called ``name``, which it fills; to be read only."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each process has a folder of its own below it
    stored = base / f"{name}.pickle"
    with FileLock(base / f"{name}.lock"):
        if not stored.exists():
            folder = base / name
            folder.mkdir(exist_ok=True)
            stored.write_bytes(pickle.dumps(make(folder)))
    return cast(Made, pickle.loads(stored.read_bytes()))
