"""The speed of a checkpoint in vLLM: what happens where it is unavailable or broken. With vLLM itself:
``tests/core/targets/compressed_tensors/test_vllm.py``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from qpruner_core.errors import CancelledError
from qpruner_core.events import CancelToken
from qpruner_core.loading import engine_speed
from qpruner_core.measure.speed import EngineFailedError, Speed
from qpruner_core.measure.vllm import vllm_speed
from qpruner_core.measure.vllm_python import PYTHON, vllm_python

CONFIG = {"vocab_size": 300, "max_position_embeddings": 64}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return directory


def engine(directory: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that does what the shell lines ``text`` say."""
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(path))


def test_where_vllm_is_not_installed_nothing_is_measured(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    assert vllm_python() is None
    assert vllm_speed(checkpoint, 4, gpu=False) is None
    assert engine_speed(checkpoint, 4, gpu=False) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo no kernel for int8_channel >&2; exit 3", "vLLM ended with 3: no kernel for int8_channel"),
        ("true", "vLLM printed no speeds"),
        ('echo [] > "$4"', "vLLM printed no speeds"),
    ],
)
def test_an_engine_that_fails_says_how(
    text: str, said: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(tmp_path, text, monkeypatch)
    with pytest.raises(EngineFailedError, match=said):
        vllm_speed(checkpoint, 4, gpu=False)


def test_a_python_without_vllm_is_no_engine(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, sys.executable)
    with pytest.raises(EngineFailedError, match="No module named 'vllm'"):
        vllm_speed(checkpoint, 4, gpu=False)


def test_it_is_asked_for_what_the_model_has_positions_for(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen.json"
    engine(tmp_path, f'cp "$3" {seen}; echo \'{{"decode": 2, "prefill": 5}}\' > "$4"', monkeypatch)
    assert vllm_speed(checkpoint, 16, gpu=False) == Speed(2.0, "vLLM", 5.0)
    asked = json.loads(seen.read_text())
    assert len(asked["prompt"]) + asked["new_tokens"] + 1 == asked["model"]["max_model_len"] == 64
    assert (asked["new_tokens"], asked["model"]["model_impl"]) == (16, "auto")
    assert max(asked["prompt"]) < CONFIG["vocab_size"]


def test_an_adapter_of_a_rank_that_vllm_does_not_take_is_not_tried(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(tmp_path, "exit 1", monkeypatch)
    with pytest.raises(EngineFailedError, match="up to rank 512, but this one has 513"):
        vllm_speed(checkpoint, 4, gpu=False, adapter=tmp_path, adapter_rank=513)


@pytest.mark.timeout(30)
def test_a_run_that_is_cancelled_ends_the_engine(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(tmp_path, "exec sleep 600", monkeypatch)
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        vllm_speed(checkpoint, 4, gpu=False, look=token.raise_if_cancelled)
