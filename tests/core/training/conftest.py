from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.training.adapters import write_small_adapter


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_small_adapter(tmp_path / "adapter")
