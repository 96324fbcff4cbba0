"""What vLLM computes with our checkpoints, against what is read back; skipped where vLLM is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.load import load_model
from qpruner_core.targets.compressed_tensors import UNQUANTIZED, read_compressed_tensors
from tests.core.targets.compressed_tensors.quantized_models import SUPPORTED, uneven_model, write
from tests.engines import vllm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROMPTS = [
    torch.randint(3, 290, (length,), generator=torch.Generator().manual_seed(length)).tolist() for length in (20, 33)
]


def ours(model: torch.nn.Module) -> list[list[float]]:
    """The same as :func:`vllm.log_probabilities` in torch."""
    found = []
    with torch.no_grad():
        for prompt in PROMPTS:
            predicted = model(torch.tensor([prompt])).logits[0, :-1].float().log_softmax(-1)
            found.append(predicted.gather(1, torch.tensor(prompt[1:]).unsqueeze(1)).flatten().tolist())
    return found


def errors(found: list[list[float]], wanted: list[list[float]]) -> torch.Tensor:
    return torch.tensor([a - b for x, y in zip(found, wanted, strict=True) for a, b in zip(x, y, strict=True)]).abs()


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "granite", "opt"])
def test_layers_of_different_widths_in_16_bits(model_type: str, tmp_path: Path) -> None:
    vllm.python()
    model, family = uneven_model(model_type)
    write_model(model, family, tmp_path / "merged", tokenizer_from=tmp_path)
    found = vllm.log_probabilities(tmp_path / "merged", PROMPTS, dtype="float32", own_code=True)
    assert errors(found, ours(load_model(tmp_path / "merged", dtype=torch.float32))).max() < 1e-4


@pytest.mark.parametrize("model_type", SUPPORTED)
@pytest.mark.parametrize("uneven", [False, True], ids=["uniform", "uneven"])
def test_four_bits_beside_sixteen(model_type: str, uneven: bool, tmp_path: Path) -> None:
    vllm.python()
    vllm.require_four_bits()
    write(tmp_path, model_type, uneven=uneven, names=["int4_g64", UNQUANTIZED, "int4_g32"])
    found = vllm.log_probabilities(tmp_path, PROMPTS, own_code=uneven)
    # Both compute in bfloat16, and add in another order
    assert errors(found, ours(read_compressed_tensors(tmp_path))).mean() < 0.03


@pytest.mark.parametrize("uneven", [False, True], ids=["uniform", "uneven"])
def test_eight_bits_in_weights_and_inputs(uneven: bool, tmp_path: Path) -> None:
    vllm.python()
    write(tmp_path, "llama", uneven=uneven, names=["int8_w8a8"])
    found = vllm.log_probabilities(tmp_path, PROMPTS, own_code=uneven)
    assert errors(found, ours(read_compressed_tensors(tmp_path))).mean() < 0.03
