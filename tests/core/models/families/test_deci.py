"""Pruned Llamas that vLLM builds by a class of its own, and those that it must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from qpruner_core.formats.base import CheckpointFacts
from qpruner_core.formats.registry import load_format
from qpruner_core.models import inspect_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import DECI, Family
from qpruner_core.models.load import load_model
from qpruner_core.models.reshape import own_architectures, runs_as_deci
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.targets.compressed_tensors import write_compressed_tensors
from tests.core.models.families.pruned_models import pruned_in_layout, some_ids
from tests.core.targets.compressed_tensors.quantized_models import uneven_mlps, uneven_model
from tests.tiny_model import build_tokenizer


def architectures(directory: Path) -> list[str]:
    found: list[str] = json.loads((directory / "config.json").read_text())["architectures"]
    return found


def test_every_block_has_the_widths_of_its_layer() -> None:
    model, family = uneven_mlps("llama")
    blocks = model.config.block_configs
    assert [block.ffn.intermediate_size for block in blocks] == [
        widths.intermediate_size for widths in family.widths(model.config)
    ]
    assert {block.attention.n_heads_in_group for block in blocks} == {2}
    assert not any(block.attention.no_op or block.ffn.no_op for block in blocks)


def other_models() -> dict[str, tuple[PreTrainedModel, Family]]:
    return {
        "heads of each layer's own": uneven_model("llama"),
        "another activation": uneven_mlps("llama", hidden_act="relu"),
        "biases that make up for what was removed": pruned_in_layout("llama", "output biases", torch.bfloat16),
        "another family": uneven_mlps("qwen3"),
    }


@pytest.mark.parametrize("why", other_models())
def test_what_would_be_another_model_there_is_not_offered(why: str) -> None:
    model, family = other_models()[why]
    assert not runs_as_deci(model.config)
    assert own_architectures(model.config, family) == [family.model_class]


def test_one_directory_is_read_by_all(tmp_path: Path) -> None:
    model, family = uneven_mlps("llama")
    build_tokenizer(tmp_path)
    write_model(model, family, tmp_path / "merged", tokenizer_from=tmp_path)
    tensors = {name: tensor.data for name, tensor in model.named_parameters()}
    write_compressed_tensors(
        tmp_path / "packed", config=model.config, family=family, tensors=tensors, precision={}, tokenizer_from=tmp_path
    )
    ids = some_ids(2, 9)
    with torch.no_grad():
        wanted = model(ids).logits
        for name in ("merged", "packed"):
            assert architectures(tmp_path / name) == [family.model_class, DECI]
            inspect_model(str(tmp_path / name), SourcePolicy(allowed_roots=(tmp_path,), allow_hub=False))
            read: list[Any] = [
                load_model(tmp_path / name),
                AutoModelForCausalLM.from_pretrained(tmp_path / name, trust_remote_code=True, dtype=torch.bfloat16),
            ]
            assert all(torch.equal(one(ids).logits, wanted) for one in read)


def test_the_card_asks_vllm_for_the_transformers_backend_only_where_it_must() -> None:
    kind = load_format("compressed_tensors")
    line = {
        (deci, rank): kind.snippets(CheckpointFacts("Llama", True, 1, adapter_rank=rank, deci=deci))[0].text
        for deci in (False, True)
        for rank in (0, 8)
    }
    assert line[True, 0] == "vllm serve compressed-tensors --trust-remote-code"
    assert all("--model-impl transformers" in line[case] for case in ((False, 0), (False, 8), (True, 8)))
