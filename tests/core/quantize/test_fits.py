from __future__ import annotations

import shutil
from pathlib import Path

from qpruner_core import compress
from qpruner_core.quantize.fits import DIRECTORY
from tests.core.pipeline.conftest import checkpoint_hashes, quick_config


def test_a_fit_that_was_cut_off_is_made_again_and_the_result_is_the_same(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    config = quick_config(tiny_llama, text_dataset, finetune={"steps": 0})
    compress(config, tmp_path / "out")
    fits = sorted((tmp_path / "out.work" / DIRECTORY).rglob("*.safetensors"))
    assert fits
    fits[0].write_bytes(fits[0].read_bytes()[:20])
    fits[1].write_bytes(b"")
    before = checkpoint_hashes(tmp_path / "out")
    for stage in ("score", "allocate", "quantize", "finetune", "evaluate", "export"):
        shutil.rmtree(tmp_path / "out.work" / stage)
    compress(config, tmp_path / "out")
    assert checkpoint_hashes(tmp_path / "out") == before


def test_modules_are_fitted_once_for_all_stages(tiny_llama: Path, text_dataset: Path, tmp_path: Path) -> None:
    """Another budget reads the fits of the run before."""
    compress(quick_config(tiny_llama, text_dataset, finetune={"steps": 0}), tmp_path / "out")
    fits = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.work" / DIRECTORY).rglob("*.safetensors")}
    compress(quick_config(tiny_llama, text_dataset, finetune={"steps": 0}, memory_budget=340_000), tmp_path / "out")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.work" / DIRECTORY).rglob("*.safetensors")}
    assert {path: after[path] for path in fits} == fits
