"""Real parts that the tests of the core share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import HubServer, run_hub_server
from tests.made_once import made_once
from tests.tiny_model import build_tiny_llama, write_text_dataset


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny trained Llama; read-only, shared by all tests of a run."""
    return made_once(tmp_path_factory, "tiny-llama", build_tiny_llama)


@pytest.fixture(scope="session")
def text_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .txt file of about 200 kB of prose; read-only."""
    return made_once(tmp_path_factory, "tiny-text", lambda folder: write_text_dataset(folder / "prose.txt"))


@pytest.fixture
def hub_server() -> Iterator[HubServer]:
    """A running model hub without repositories; ``add_model`` and ``add_dataset`` give it some."""
    with run_hub_server() as hub:
        yield hub
