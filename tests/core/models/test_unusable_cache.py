"""A cache directory that cannot be read or written is named, with the setting that moves it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qpruner_core.errors import CacheUnusableError, ModelNotFoundError
from qpruner_core.models import inspect_model, resolve_model
from qpruner_core.source_policy import SourcePolicy, default_cache_dir
from tests.hub_server import HubServer
from tests.tiny_gguf import write_tiny_gguf


def a_file(path: Path) -> Path:
    path.write_text("not a directory")
    return path


def below_a_file(path: Path) -> Path:
    return a_file(path) / "cache"


def too_long(path: Path) -> Path:
    return path / ("x" * 300)


@pytest.fixture(params=[a_file, below_a_file, too_long], ids=lambda make: make.__name__)
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make: Callable[[Path], Path] = request.param
    return make(tmp_path / "cache")


def test_a_gguf_file_that_cannot_be_converted_anywhere(unusable: Path, tiny_llama: Path, tmp_path: Path) -> None:
    model = write_tiny_gguf(tiny_llama, tmp_path / "tiny.gguf")
    with pytest.raises(CacheUnusableError) as caught:
        resolve_model(str(model), SourcePolicy(cache_dir=unusable))
    assert (caught.value.field, caught.value.exit_code) == ("cache_dir", 2)
    assert "QPRUNER_CACHE_DIR" in caught.value.remedy


def test_a_hub_that_cannot_be_fetched_from(unusable: Path, hub_server: HubServer, tiny_llama: Path) -> None:
    hub_server.add_model("acme/tiny", tiny_llama)
    policy = SourcePolicy(hub_endpoint=hub_server.url, cache_dir=unusable)
    for look in (inspect_model, resolve_model):
        with pytest.raises(CacheUnusableError):
            look("acme/tiny", policy)
    assert "model.safetensors" not in hub_server.sent


def test_a_local_model_needs_no_cache(unusable: Path, tiny_llama: Path) -> None:
    assert resolve_model(str(tiny_llama), SourcePolicy(cache_dir=unusable)).directory == tiny_llama


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("QPRUNER_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(CacheUnusableError):
        default_cache_dir()
    monkeypatch.setenv("QPRUNER_CACHE_DIR", os.sep + "somewhere")
    assert default_cache_dir() == Path("/somewhere")


@pytest.mark.parametrize("reference", ["x" * 900, "a/" + "b" * 900, "nothing\0here"])
def test_a_name_that_no_path_can_have_is_a_model_that_is_not_found(reference: str) -> None:
    with pytest.raises(ModelNotFoundError):
        inspect_model(reference, SourcePolicy(hub_endpoint="http://127.0.0.1:9"))
