"""What vLLM computes with our checkpoints, against what is read back; skipped where vLLM is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qpruner_core.measure.speed import EngineFailedError
from qpruner_core.measure.vllm import vllm_speed
from qpruner_core.measure.vllm_python import PYTHON
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.load import load_model
from qpruner_core.targets.compressed_tensors import UNQUANTIZED, read_compressed_tensors
from qpruner_core.targets.config import PRECISIONS, has_kernel
from tests.core.targets.compressed_tensors.quantized_models import SUPPORTED, uneven_mlps, uneven_model, write
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
def test_eight_bits_in_weights_and_inputs_of_a_llama(uneven: bool, tmp_path: Path) -> None:
    vllm.python()
    if uneven:
        vllm.require_no_amx()
    write(tmp_path, "llama", uneven=uneven, names=["int8_w8a8"])
    found = vllm.log_probabilities(tmp_path, PROMPTS, own_code=uneven)
    assert errors(found, ours(read_compressed_tensors(tmp_path))).mean() < 0.03


def test_every_precision_that_a_run_for_a_cpu_may_have_in_one_llama(tmp_path: Path) -> None:
    vllm.python()
    vllm.require_four_bits()
    names = [name for name in PRECISIONS["compressed-tensors"] if has_kernel("compressed-tensors", "cpu", name)]
    write(tmp_path, "llama", uneven=False, names=names)
    found = vllm.log_probabilities(tmp_path, PROMPTS)
    assert errors(found, ours(read_compressed_tensors(tmp_path))).mean() < 0.03


def test_a_llama_with_mlps_of_different_widths_in_vllms_own_class(tmp_path: Path) -> None:
    vllm.python()
    model, family = uneven_mlps("llama")
    write_model(model, family, tmp_path / "merged", tokenizer_from=tmp_path)
    wanted = ours(load_model(tmp_path / "merged", dtype=torch.float32))
    for model_impl in ("auto", "transformers"):
        found = vllm.log_probabilities(
            tmp_path / "merged", PROMPTS, dtype="float32", own_code=True, model_impl=model_impl
        )
        assert errors(found, wanted).max() < 1e-4


def test_vllm_times_a_llama_whose_layers_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, str(vllm.python()))
    vllm.require_four_bits()
    write(tmp_path, "llama", uneven=True, names=["int4_g64", UNQUANTIZED])
    speed = vllm_speed(tmp_path, 4, gpu=False)
    assert speed is not None
    assert speed.engine == "vLLM"
    assert speed.prefill_tokens_per_second is not None
    assert min(speed.tokens_per_second, speed.prefill_tokens_per_second) > 0


def test_vllm_says_of_a_llama_that_it_has_no_kernel_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, str(vllm.python()))
    write(tmp_path, "llama", uneven=False, names=["int8_channel"])
    with pytest.raises(EngineFailedError, match="vLLM ended with 1"):
        vllm_speed(tmp_path, 4, gpu=False)
