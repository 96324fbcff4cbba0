"""The speed of a GGUF file in llama.cpp, and what happens where it is unavailable or broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from qpruner_core.errors import CancelledError
from qpruner_core.events import CancelToken
from qpruner_core.measure.llama_cpp import llama_cpp_speed
from qpruner_core.measure.llama_cpp_programs import DIRECTORY, llama_cpp_program
from qpruner_core.measure.speed import EngineFailedError
from tests.engines.llama_cpp import program
from tests.gguf_target import config_of, random_model, write


def script(directory: Path, text: str) -> Path:
    """A ``llama-bench`` that does what ``text`` says."""
    path = directory / "llama-bench"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_llama_bench_measures_a_file_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY, str(program("llama-bench").parents[1]))
    speed = llama_cpp_speed(write(random_model(config_of("llama")), tmp_path / "model.gguf"), 4, gpu=False)
    assert speed is not None
    assert speed.engine == "llama.cpp"
    assert speed.tokens_per_second > 0
    assert speed.prefill_tokens_per_second is not None
    assert speed.prefill_tokens_per_second > 0


def test_where_llama_cpp_is_not_installed_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    assert llama_cpp_speed(tmp_path / "model.gguf", 4, gpu=False) is None


def test_the_directory_is_that_of_the_programs_or_has_them_in_bin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    path = script(tmp_path / "bin", "true")
    for directory in (tmp_path, tmp_path / "bin"):
        monkeypatch.setenv(DIRECTORY, str(directory))
        assert llama_cpp_program("llama-bench") == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo no such model >&2; exit 3", "ended with 3: no such model"),
        ("echo hello", "no JSON"),
        ("echo []", "no speeds"),
    ],
)
def test_an_engine_that_fails_says_how(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, text)
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    with pytest.raises(EngineFailedError, match=said):
        llama_cpp_speed(tmp_path / "model.gguf", 4, gpu=False)


@pytest.mark.timeout(30)
def test_a_run_that_is_cancelled_ends_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "exec sleep 600")
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        llama_cpp_speed(tmp_path / "model.gguf", 4, gpu=False, look=token.raise_if_cancelled)
