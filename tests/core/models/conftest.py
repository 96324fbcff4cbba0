"""Models with one thing wrong with them, and policies that allow one directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qpruner_core.source_policy import SourcePolicy


@pytest.fixture
def model_copy(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama that a test may break."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "models" / "llama"))


@pytest.fixture
def policy(tmp_path: Path) -> SourcePolicy:
    """Everything local is allowed, no hub."""
    return SourcePolicy(cache_dir=tmp_path / "cache", allow_hub=False)


@pytest.fixture
def edit_config(model_copy: Path) -> Callable[..., None]:
    """Change keys of the copied model's config.json; ``None`` deletes a key."""

    def edit(**changes: Any) -> None:
        path = model_copy / "config.json"
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return edit
