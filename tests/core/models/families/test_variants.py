"""Shapes that a family has besides that of its small model: other attention, no biases, sparse layers in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import find_family
from qpruner_core.models.load import load_model
from tests.core.models.families.pruned_models import pruned, some_ids
from tests.core.models.families.shapes import uneven_shape
from tests.core.models.families.test_matrix import check_equals_zeroed
from tests.core.small_models import small_model

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon multi-query": ("falcon", {"new_decoder_architecture": False, "multi_query": True}),
    "falcon multi-head": (
        "falcon",
        {
            "new_decoder_architecture": False,
            "multi_query": False,
            "parallel_attn": False,
            "num_key_value_heads": 6,
        },
    ),
    "falcon with biases": ("falcon", {"bias": True}),
    "opt without biases": ("opt", {"enable_bias": False}),
    "opt post-norm": ("opt", {"do_layer_norm_before": False}),
    "gpt-neox without biases": ("gpt_neox", {"attention_bias": False}),
    "gpt-neox in sequence": ("gpt_neox", {"use_parallel_residual": False}),
    "qwen3-moe sparse in turns": ("qwen3_moe", {"decoder_sparse_step": 2, "mlp_only_layers": []}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_cut_cached_and_loaded_like_its_family(variant: str, tmp_path: Path) -> None:
    model_type, overrides = VARIANTS[variant]
    model, family = small_model(model_type, **overrides), find_family(model_type)
    shape = uneven_shape(family, model.config)
    check_equals_zeroed(model, family, shape)
    small = pruned(model, family, shape).to(torch.float32)
    ids = some_ids(1, 8)
    settings = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    assert torch.equal(small.generate(ids, **settings), small.generate(ids, use_cache=False, **settings))
    write_model(small, family, tmp_path / "m", tokenizer_from=tmp_path)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "m", dtype=torch.float32)(ids).logits, small(ids).logits)
