from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qpruner_core import CompressionConfig, compress
from qpruner_core.fitting.fit_files import DIRECTORY
from tests.core.pipeline.conftest import checkpoint_hashes, quick_config

Run = tuple[CompressionConfig, Path]


@pytest.fixture(scope="module")
def undisturbed(tiny_llama: Path, text_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without recovery and where it wrote to."""
    config = quick_config(tiny_llama, text_dataset, finetune={"steps": 0})
    output = tmp_path_factory.mktemp("fits") / "out"
    compress(config, output)
    return config, output


def test_a_fit_that_was_cut_off_is_made_again_and_the_result_is_the_same(undisturbed: Run, tmp_path: Path) -> None:
    config, output = undisturbed
    for part in ("prune", DIRECTORY):
        shutil.copytree(output.with_name("out.work") / part, tmp_path / "out.work" / part)
    fits = sorted((tmp_path / "out.work" / DIRECTORY).rglob("*.safetensors"))
    assert fits
    fits[0].write_bytes(fits[0].read_bytes()[:20])
    fits[1].write_bytes(b"")
    compress(config, tmp_path / "out")
    assert checkpoint_hashes(tmp_path / "out") == checkpoint_hashes(output)


def test_modules_are_fitted_once_for_all_stages(undisturbed: Run, tmp_path: Path) -> None:
    """Another budget reads the fits of the run before."""
    config, output = undisturbed
    shutil.copytree(output.with_name("out.work"), tmp_path / "out.work")
    fits = modified(tmp_path / "out.work" / DIRECTORY)
    assert fits
    assert any("embed_tokens" in path.name for path in fits)
    compress(config.model_copy(update={"memory_budget": 340_000}), tmp_path / "out")
    after = modified(tmp_path / "out.work" / DIRECTORY)
    assert {path: after[path] for path in fits} == fits


def modified(directory: Path) -> dict[Path, int]:
    """When each file of fits below ``directory`` was written."""
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*.safetensors")}
