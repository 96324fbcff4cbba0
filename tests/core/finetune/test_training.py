from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qpruner_core.data import Example
from qpruner_core.finetune.batches import IGNORED, batches
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.finetune.training import train_adapter
from qpruner_core.models.families import find_family
from qpruner_core.quantize.adapters import adapter_name, attach_adapter, write_adapter
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.quantize.mixed_model import linear_names
from tests.core.small_models import small_model

CPU = torch.device("cpu")


def example(length: int, masked: int = 0) -> Example:
    ids = torch.arange(1, length + 1)
    labels = ids.clone()
    labels[:masked] = IGNORED
    return Example(ids, labels)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    family = find_family("llama")
    generator = torch.Generator().manual_seed(0)
    model = small_model("llama", dtype=torch.bfloat16)
    tensors = {}
    for layer in range(5):
        for name in linear_names(model, family, layer):
            rows, columns = model.get_submodule(name).weight.shape
            tensors[adapter_name(name, "A")] = torch.randn(4, columns, generator=generator) * 0.1
            tensors[adapter_name(name, "B")] = torch.zeros(rows, 4)
    targets = [path.rpartition(".")[2] for path in family.linears]
    write_adapter(tmp_path / "adapter", tensors, QuantizeConfig(lora_rank=4), targets)
    return tmp_path / "adapter"


def trained(
    adapter: Path, dropout: float = 0.0, accumulation: int = 1, batch_size: int = 2, steps: int = 8
) -> list[float]:
    model = attach_adapter(
        small_model("llama", dtype=torch.bfloat16), adapter, trainable=True, dropout=dropout, dtype=torch.float32
    )
    losses: list[float] = []
    stream = batches([example(12), example(9)], batch_size, seed=0, device=CPU)
    settings = FinetuneConfig(
        steps=steps, gradient_accumulation=accumulation, learning_rate=0.02, warmup_steps=0, dropout=dropout
    )
    torch.manual_seed(0)
    train_adapter(model, stream, settings, lambda step, loss: losses.append(loss))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    return losses


def test_training_lowers_the_loss_and_only_the_adapter_learns(adapter: Path) -> None:
    losses = trained(adapter)
    assert len(losses) == 8
    assert losses[-1] < losses[0] - 0.1


def test_dropout_takes_part_in_training(adapter: Path) -> None:
    assert trained(adapter, dropout=0.5) != trained(adapter)


def test_accumulated_batches_weigh_every_token_alike(adapter: Path) -> None:
    together = trained(adapter, batch_size=2, accumulation=1, steps=1)
    apart = trained(adapter, batch_size=1, accumulation=2, steps=1)
    assert apart == pytest.approx(together, rel=0.01)


def test_batches_pad_on_the_right_and_take_no_loss_of_padding_or_prompt() -> None:
    batch = next(batches([example(6, masked=2), example(4)], 2, seed=0, device=CPU))
    long = int(batch.attention_mask[1].sum() == 6)
    assert batch.input_ids.shape == (2, 6)
    assert batch.attention_mask[1 - long].tolist() == [1, 1, 1, 1, 0, 0]
    assert batch.labels[1 - long].tolist() == [1, 2, 3, 4, IGNORED, IGNORED]
    assert batch.labels[long].tolist() == [IGNORED, IGNORED, 3, 4, 5, 6]


def test_every_example_is_seen_once_an_epoch_in_an_order_of_the_seed() -> None:
    examples = [example(length) for length in range(2, 10)]
    stream = batches(examples, 4, seed=3, device=CPU)
    seen = [int(row.sum()) for _ in range(2) for row in next(stream).attention_mask]
    assert sorted(seen) == list(range(2, 10))
    again = batches(examples, 4, seed=3, device=CPU)
    assert [int(row.sum()) for _ in range(2) for row in next(again).attention_mask] == seen
