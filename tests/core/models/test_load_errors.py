"""What a failure while weights are read is reported as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qpruner_core.errors import CorruptModelError
from qpruner_core.models import load, load_model


def fail_with(error: Exception, patch: pytest.MonkeyPatch) -> None:
    def read(*args: object) -> None:
        raise error

    patch.setattr(load, "_read_weights", read)


def allocation_failure() -> RuntimeError:
    """What torch itself says when a CPU has no such memory."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    return raised.value


def test_too_little_memory_is_not_called_a_damaged_model(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (allocation_failure(), torch.OutOfMemoryError("CUDA out of memory")):
        fail_with(error, monkeypatch)
        with pytest.raises(RuntimeError) as raised:
            load_model(tiny_llama)
        assert raised.value is error


def test_an_error_without_a_message_is_reported_by_its_kind(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(ValueError(), monkeypatch)
    with pytest.raises(CorruptModelError, match="ValueError"):
        load_model(tiny_llama)
