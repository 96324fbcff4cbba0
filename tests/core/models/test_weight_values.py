"""Weights that are no numbers, found in one pass over the files before any stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from qpruner_core.errors import CorruptModelError
from qpruner_core.models import weight_values
from qpruner_core.models.weight_values import checked_sha256
from qpruner_core.stage_store import file_sha256

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


@given(
    dtype=st.sampled_from(DTYPES),
    values=st.lists(st.floats(width=32) | st.sampled_from([3.4e38, -3.4e38, 65504.0, -0.0, 1e-45]), min_size=1),
)
@settings(deadline=None, max_examples=150)
def test_exactly_what_is_not_finite_in_bfloat16_is_refused(
    tmp_path_factory: pytest.TempPathFactory, dtype: torch.dtype, values: list[float]
) -> None:
    path = tmp_path_factory.getbasetemp() / "values.safetensors"
    tensor = torch.tensor(values, dtype=dtype)
    save_file({"good": torch.ones(3, dtype=dtype), "tested.weight": tensor}, path)
    if bool(tensor.to(torch.bfloat16).isfinite().all()):
        assert checked_sha256(path) == file_sha256(path)
    else:
        with pytest.raises(CorruptModelError, match=r"'tested\.weight' contains NaN"):
            checked_sha256(path)


@pytest.mark.parametrize("value", [float("nan"), float("-nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 1023, 1024, 4999])
def test_no_place_in_a_large_tensor_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, dtype: torch.dtype, place: int
) -> None:
    monkeypatch.setattr(weight_values, "_PIECE", 2048)
    tensor = torch.zeros(5000, dtype=dtype)
    save_file({"w": tensor}, tmp_path / "w")
    assert checked_sha256(tmp_path / "w") == file_sha256(tmp_path / "w")
    tensor[place] = value
    save_file({"w": tensor}, tmp_path / "w")
    with pytest.raises(CorruptModelError, match="'w'"):
        checked_sha256(tmp_path / "w")


def test_constants_that_nobody_reads_may_hold_anything(tmp_path: Path) -> None:
    save_file({"h.0.attn.masked_bias": torch.tensor(float("-inf"))}, tmp_path / "w")
    assert checked_sha256(tmp_path / "w") == file_sha256(tmp_path / "w")
