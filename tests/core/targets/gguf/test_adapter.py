"""An adapter as a file of its own: written, read back with its base, and put on it by llama.cpp."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import torch
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.adapters import (
    Factors,
    adapter_bytes,
    adapter_name,
    attach_adapter,
    read_factors,
    write_adapter,
)
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.errors import CorruptModelError
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models import load_tokenizer
from qpruner_core.models.families import find_family, linear_shape
from qpruner_core.precisions import Tensors
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.gguf import loader_of, read_gguf, read_with_adapter, write_gguf_adapter
from qpruner_core.targets.gguf.target import Gguf
from tests.engines import llama_cpp
from tests.gguf_target import AS_LLAMA_CPP, DECI, DIFFERENT, config_of, pruned_config, random_model, write

_IDS = [index % 90 + 3 for index in range(40)]
_PREFIXES = (5, 17, 40)
_CONFIGS: dict[str, PretrainedConfig] = {name: config_of(name) for name in AS_LLAMA_CPP} | {
    f"{name} as deci": pruned_config(name, DIFFERENT, **overrides) for name, overrides in DECI.items()
}


def _adapter(
    model: PreTrainedModel, directory: Path, *, rank: int = 4, alpha: float = 6.0, other_ranks: bool = False
) -> Path:
    """A PEFT directory with random factors on every linear module of the layers."""
    family, random = find_family(model.config.model_type), torch.Generator().manual_seed(1)
    tensors: Tensors = {}
    for layer in range(len(family.decoder_layers(model))):
        for index, name in enumerate(linear_names(model, family, layer)):
            rows, columns = linear_shape(model.get_submodule(name))
            own = rank + (index % 3 - 1 if other_ranks else 0)
            for factor, shape in (("A", (own, columns)), ("B", (rows, own))):
                tensors[adapter_name(name, factor)] = (torch.randn(shape, generator=random) * 0.3).bfloat16()
    targets = family.adapted
    write_adapter(directory, tensors, QuantizeConfig(lora_rank=rank, lora_alpha=alpha), targets)
    return directory


def _logits(model: PreTrainedModel | PeftModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([_IDS])).logits[0]
    return found


def _written(config: PretrainedConfig, place: Path, *, other_ranks: bool = False) -> tuple[Path, Path, Path]:
    """Base, adapter and the PEFT directory that it was made of."""
    model = random_model(config)
    base = write(model, place / "model.gguf")
    peft = _adapter(model, place / "peft", other_ranks=other_ranks)
    alpha, factors = read_factors(peft)
    write_gguf_adapter(place / "adapter.gguf", config=config, factors=factors, alpha=alpha)
    return base, place / "adapter.gguf", peft


@pytest.mark.parametrize("name", _CONFIGS)
def test_base_and_adapter_read_back_compute_what_peft_does(name: str, tmp_path: Path) -> None:
    base, adapter, peft = _written(_CONFIGS[name], tmp_path)
    expected = attach_adapter(read_gguf(base, dtype=torch.float32), peft, dtype=torch.float32)
    found = read_with_adapter(base, adapter, dtype=torch.float32)
    torch.testing.assert_close(_logits(found), _logits(expected))
    with found.disable_adapter():
        assert llama_cpp.divergence(_logits(expected), _logits(found)) > 0.01


def test_ranks_that_differ_keep_their_scaling(tmp_path: Path) -> None:
    base, adapter, peft = _written(config_of("llama"), tmp_path, other_ranks=True)
    expected = attach_adapter(read_gguf(base, dtype=torch.float32), peft, dtype=torch.float32)
    found = read_with_adapter(base, adapter, dtype=torch.float32)
    # B times a quotient of ranks is rounded to bfloat16 again
    assert llama_cpp.divergence(_logits(expected), _logits(found)) < 1e-4


def _engine_probabilities(base: Path, *arguments: str) -> torch.Tensor:
    """What ``llama-server`` predicts after each of the prefixes: log-probabilities ``[prefixes, vocabulary]``.

    What it says is of the logits before the bias, which makes it go on with a token that is text by itself.
    """
    found = []
    letter = load_tokenizer(base.parent / "tokenizer")("a", add_special_tokens=False)["input_ids"][0]
    how = {"n_predict": 1, "n_probs": 300, "logit_bias": [[letter, 1000.0]]}
    with llama_cpp.server(base, *arguments) as address:
        for length in _PREFIXES:
            request = {"prompt": _IDS[:length], **how}
            answer = httpx.post(f"{address}/completion", json=request, timeout=60).json()
            row = torch.full((300,), -100.0)
            for one in answer["completion_probabilities"][0]["top_logprobs"]:
                row[one["id"]] = one["logprob"]
            found.append(row)
    return torch.stack(found)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.startswith("llama") else pytest.mark.slow) for name in _CONFIGS]
)
def test_the_engine_applies_the_adapter(name: str, tmp_path: Path) -> None:
    config = _CONFIGS[name]
    assert (loader_of(config).name == "deci") == name.endswith("deci")
    base, adapter, _ = _written(config, tmp_path, other_ranks=name.startswith("llama"))
    rows = [length - 1 for length in _PREFIXES]
    ours = _logits(read_with_adapter(base, adapter, dtype=torch.float32))[rows]
    alone = _logits(read_gguf(base, dtype=torch.float32))[rows]
    with_adapter = _engine_probabilities(base, "--lora", str(adapter))
    assert llama_cpp.divergence(ours, with_adapter) < 0.01
    assert llama_cpp.divergence(alone, with_adapter) > 0.02
    assert llama_cpp.divergence(alone, _engine_probabilities(base)) < 0.01


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(_CONFIGS)), rank=st.integers(1, 9))
def test_predicted_bytes_are_those_of_the_file(name: str, rank: int, tmp_path: Path) -> None:
    config = _CONFIGS[name]
    model = random_model(config)
    alpha, factors = read_factors(_adapter(model, tmp_path / "peft", rank=rank))
    write_gguf_adapter(tmp_path / "adapter.gguf", config=config, factors=factors, alpha=alpha)
    held = sum(int(tensor.n_bytes) for tensor in GGUFReader(tmp_path / "adapter.gguf").tensors)
    target = Gguf(QuantizeConfig(lora_rank=rank), AllocateConfig(), FinetuneConfig(recovery="adapter"))
    memory = MemoryModel(config, find_family(config.model_type), target)
    assert memory.by_part(memory.lowest).adapters == held
    assert held == adapter_bytes(tmp_path / "peft") or name == "phi3 as deci"  # whose A stand there for each part


@pytest.mark.parametrize("damage", ["another architecture", "half of it", "another base", "empty"])
def test_an_adapter_that_is_none_of_the_base_is_refused(damage: str, tmp_path: Path) -> None:
    base, adapter, peft = _written(config_of("llama"), tmp_path)
    alpha, factors = read_factors(peft)
    config = config_of("qwen3" if damage == "another architecture" else "llama")
    if damage == "half of it":
        stored = adapter.read_bytes()
        adapter.write_bytes(stored.replace(b"blk.0.attn_q.weight.lora_b", b"blk.0.attn_z.weight.lora_b", 1))
    else:
        if damage == "another base":
            factors = {name: Factors(each.a[:, :-8], each.b, each.alpha) for name, each in factors.items()}
        write_gguf_adapter(adapter, config=config, factors={} if damage == "empty" else factors, alpha=alpha)
    with pytest.raises(CorruptModelError):
        read_with_adapter(base, adapter)
