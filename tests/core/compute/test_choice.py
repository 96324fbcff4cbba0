from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from qpruner_core.compute.choice import choose_compute

CPU = torch.device("cpu")


def test_the_faster_type_is_measured_once_and_kept(tmp_path: Path) -> None:
    first = choose_compute("auto", CPU, tmp_path)
    (kept,) = (tmp_path / "compute").iterdir()
    assert set(json.loads(kept.read_text())) == {"bfloat16", "float32"}
    assert choose_compute("auto", CPU, tmp_path) == first


@pytest.mark.parametrize(("bfloat16", "chosen"), [(9.0, "float32"), (1.1, "bfloat16"), (0.3, "bfloat16")])
def test_float32_has_to_be_clearly_faster(tmp_path: Path, bfloat16: float, chosen: str) -> None:
    choose_compute("auto", CPU, tmp_path)
    (kept,) = (tmp_path / "compute").iterdir()
    kept.write_text(json.dumps({"bfloat16": bfloat16, "float32": 1.0}))
    assert choose_compute("auto", CPU, tmp_path).products == chosen


def test_a_setting_is_obeyed_without_measuring(tmp_path: Path) -> None:
    compute = choose_compute("float32", CPU, tmp_path)
    assert (compute.products, compute.dtype) == ("float32", torch.float32)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", '{"bfloat16": 1}', "[]"])
def test_a_broken_cache_is_measured_anew(tmp_path: Path, content: str) -> None:
    choose_compute("auto", CPU, tmp_path)
    (kept,) = (tmp_path / "compute").iterdir()
    kept.write_text(content)
    choose_compute("auto", CPU, tmp_path)
    assert set(json.loads(kept.read_text())) == {"bfloat16", "float32"}


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert choose_compute("auto", CPU, tmp_path / "file").products in ("bfloat16", "float32")
