from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import LayerWidths, Unit, family_names, find_family
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.plan import plan_widths
from qpruner_core.prune.surgery import kept_units, prune_model
from tests.core.prune.units import random_importance, zero_removed_units
from tests.core.small_models import BIASED, small_model

UNITS = ("kv_group", "query_head")


def pruned(model_type: str, unit: str, **overrides: Any) -> tuple[PreTrainedModel, PreTrainedModel, list[LayerWidths]]:
    model = small_model(model_type, **overrides)
    family = find_family(model_type)
    settings = PruneConfig(attention_unit=unit, protect_first=1, protect_last=1, width_multiple=8)
    widths = plan_widths(model.config, family, settings, 0.3)
    return model, prune_model(model, family, list(widths), random_importance(model, family)), widths


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("model_type", "overrides"), [*((name, {}) for name in family_names()), ("llama", BIASED)])
def test_a_pruned_model_equals_the_dense_one_with_the_same_units_zeroed(
    model_type: str, overrides: dict[str, Any], unit: str
) -> None:
    model, small, widths = pruned(model_type, unit, **overrides)
    zeroed = copy.deepcopy(model)
    family = find_family(model_type)
    zero_removed_units(zeroed, family, list(widths), random_importance(model, family))
    ids = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, actual = zeroed(ids).logits, small(ids).logits
        assert (model(ids).logits - actual).abs().max() > 1e-3  # something was really removed
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)
    assert small.num_parameters() < model.num_parameters()


@pytest.mark.parametrize("model_type", family_names())
def test_a_pruned_model_generates_the_same_with_and_without_cache(model_type: str) -> None:
    _, small, _ = pruned(model_type, "kv_group")
    ids = torch.randint(0, 97, (1, 8), generator=torch.Generator().manual_seed(3))
    settings = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    assert torch.equal(small.generate(ids, **settings), small.generate(ids, use_cache=False, **settings))


@pytest.mark.parametrize("model_type", family_names())
def test_a_pruned_checkpoint_loads_with_the_same_logits_where_our_package_is_not_imported(
    model_type: str, tmp_path: Path
) -> None:
    _, small, _ = pruned(model_type, "kv_group")
    small = small.to(torch.float32)
    write_model(small, find_family(model_type), tmp_path / "m", tokenizer_from=tmp_path)
    ids = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        torch.save(small(ids).logits, tmp_path / "expected.pt")
    script = (
        "import sys, torch; from transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True, dtype=torch.float32)\n"
        "assert not any(name.startswith('qpruner_core') for name in sys.modules)\n"
        "with torch.no_grad(): actual = model(torch.arange(12).unsqueeze(0)).logits\n"
        "assert torch.equal(actual, torch.load(sys.argv[2]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m"), str(tmp_path / "expected.pt")],
        cwd=tmp_path, env={"PATH": "", "HF_HOME": str(tmp_path / "hf")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_uniform_widths_make_a_stock_config(tmp_path: Path) -> None:
    model = small_model("llama", num_attention_heads=6, num_key_value_heads=3)
    family = find_family("llama")
    width = LayerWidths(num_attention_heads=4, num_key_value_heads=2, intermediate_size=24)
    small = prune_model(model, family, [width] * 5, random_importance(model, family))
    assert small.config.model_type == "llama"
    write_model(small, family, tmp_path / "m", tokenizer_from=tmp_path)
    assert not list((tmp_path / "m").glob("*.py"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float64)
    ids = torch.arange(9).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(again(ids).logits, small(ids).logits)


def test_equal_importance_always_keeps_the_first_units() -> None:
    same = {Unit.CHANNEL: torch.ones(10), Unit.QUERY_HEAD: torch.ones(6), Unit.KEY_VALUE_HEAD: torch.ones(3)}
    old = LayerWidths(num_attention_heads=6, num_key_value_heads=3, intermediate_size=10)
    new = LayerWidths(num_attention_heads=4, num_key_value_heads=2, intermediate_size=4)
    kept = kept_units(old, new, same)
    assert kept[Unit.CHANNEL].tolist() == [0, 1, 2, 3]
    assert kept[Unit.QUERY_HEAD].tolist() == [0, 1, 2, 3]
    assert kept[Unit.KEY_VALUE_HEAD].tolist() == [0, 1]
