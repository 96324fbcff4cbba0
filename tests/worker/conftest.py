"""Installations, and a tiny model for real runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.made_once import made_once
from tests.tiny_model import build_tiny_llama, write_text_dataset
from tests.worker.bench import Bench, run_bench
from tests.worker.installation import TINY, Installation, run_installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Everything but a worker, on SQLite and a local folder."""
    with run_installation(tmp_path, {}) as made:
        yield made


@pytest.fixture
def offline_installation(tmp_path: Path) -> Iterator[Installation]:
    """Database and store alone: nobody sends wake-ups, and nobody takes jobs back."""
    with run_installation(tmp_path, {}, dispatching=False) as made:
        yield made


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job that takes seconds once torch is imported."""

    def make(folder: Path) -> dict[str, Any]:
        build_tiny_llama(folder / "model", train_steps=20)
        write_text_dataset(folder / "prose.txt", max_bytes=60_000)
        return {"model": str(folder / "model"), "dataset": str(folder / "prose.txt"), **TINY}

    return made_once(tmp_path_factory, "tiny-job", make)


@pytest.fixture
def bench(offline_installation: Installation, tmp_path: Path) -> Iterator[Bench]:
    """Supervisors in threads, whose children run a scripted pipeline."""
    with run_bench(offline_installation, tmp_path / "directions") as made:
        yield made
