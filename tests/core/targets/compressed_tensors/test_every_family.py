"""Every family that the format can have, with layers alike and not, in stock transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.core.targets.compressed_tensors.quantized_models import (
    SUPPORTED,
    StockLogits,
    our_logits,
    stock_logits,
    write,
    write_ids,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    write_ids(directory)
    for name in SUPPORTED:
        write(directory / name, name)
        write(directory / f"{name} uneven", name, uneven=True)
    return directory


@pytest.fixture(scope="module")
def in_stock(written: Path, tmp_path_factory: pytest.TempPathFactory) -> StockLogits:
    return stock_logits(written, tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("uneven", [False, True], ids=["uniform", "uneven"])
@pytest.mark.parametrize("model_type", SUPPORTED)
def test_stock_transformers_computes_what_is_read_back(
    model_type: str, uneven: bool, written: Path, in_stock: StockLogits
) -> None:
    name = f"{model_type} uneven" if uneven else model_type
    assert any((written / name).glob("*.py")) is uneven
    stock = in_stock[name]
    assert isinstance(stock, torch.Tensor), stock
    assert torch.equal(our_logits(written, name), stock)
