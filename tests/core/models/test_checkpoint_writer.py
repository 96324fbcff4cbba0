"""Checkpoints of several files, and what travels along with the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from qpruner_core.models import load_model, resolve_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import find_family
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.pruning import prune_to_ratio
from qpruner_core.source_policy import SourcePolicy

IDS = torch.arange(3, 35).unsqueeze(0)
SHARD = 100_000


@pytest.mark.parametrize("layout", ["stock", "same_ratio"])
def test_a_checkpoint_of_several_files_loads_everywhere_with_the_logits_of_the_model_in_memory(
    layout: str, tiny_llama: Path, tmp_path: Path
) -> None:
    family = find_family("llama")
    settings = PruneConfig.model_validate(
        {"layout": layout, "criterion": "magnitude", "protect_first": 1, "protect_last": 1, "width_multiple": 8}
    )
    model, _ = prune_to_ratio(load_model(tiny_llama), family, settings, 0.25, IDS)
    write_model(model, family, tmp_path / "m", tokenizer_from=tiny_llama, max_shard_size=SHARD)
    shards = sorted((tmp_path / "m").glob("*.safetensors"))
    assert len(shards) > 1
    assert all(shard.stat().st_size <= SHARD + 10_000 for shard in shards)  # and the header
    with torch.no_grad():
        expected = model(IDS).logits
        assert torch.equal(load_model(tmp_path / "m")(IDS).logits, expected)
        stock = AutoModelForCausalLM.from_pretrained(
            tmp_path / "m", dtype=torch.bfloat16, trust_remote_code=layout != "stock"
        )
        assert torch.equal(stock(IDS).logits, expected)
    if layout == "stock":
        assert not list((tmp_path / "m").glob("*.py"))
        source = resolve_model(str(tmp_path / "m"), SourcePolicy())
        assert torch.equal(load_model(source.directory)(IDS).logits, expected)


def test_tokenizer_templates_and_generation_config_travel_byte_for_byte(tiny_llama: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    model = load_model(tiny_llama)
    write_model(model, find_family("llama"), source, tokenizer_from=tiny_llama)
    (source / "generation_config.json").write_text('{"temperature": 0.3,   "do_sample": true}\n')
    (source / "chat_template.json").write_text('{"chat_template": "{{ messages }}"}')
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool_use.jinja").write_bytes("{{ 'ä' }}\r\n".encode())
    write_model(model, find_family("llama"), tmp_path / "m", tokenizer_from=source)
    travelling = [
        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json",
        "generation_config.json", "additional_chat_templates/tool_use.jinja",
    ]  # fmt: skip
    for name in travelling:
        assert (tmp_path / "m" / name).read_bytes() == (source / name).read_bytes(), name
