"""Every family, randomly initialised and small, pruned by structure in every way that it can be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from qpruner_core.errors import UnsupportedArchitectureError
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import Family, family_names, family_of, find_family
from qpruner_core.models.load import load_model
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.surgery import prune_model
from tests.core.models.families.pruned_models import biased_model, output_biases, pruned, some_ids
from tests.core.models.families.reference import with_norms_in_float64, zeroed_model
from tests.core.models.families.shapes import cut_shape, possible_cuts, uneven_shape, without_layers
from tests.core.prune.units import random_importance
from tests.core.small_models import WINDOW, small_config, small_model

EVERY_FAMILY = pytest.mark.parametrize("model_type", family_names())
EVERY_CUT = pytest.mark.parametrize(
    ("model_type", "kind"),
    [(name, kind) for name in family_names() for kind in possible_cuts(find_family(name), small_config(name))],
)


def check_equals_zeroed(model: PreTrainedModel, family: Family, shape: Shape) -> None:
    small = with_norms_in_float64(pruned(model, family, shape), family)
    zeroed = with_norms_in_float64(zeroed_model(model, family, shape, random_importance(model, family)), family)
    ids = some_ids(2, 3 * WINDOW)
    with torch.no_grad():
        expected, actual, dense = zeroed(ids).logits, small(ids).logits, model(ids).logits
    assert (dense - actual).abs().max() > 1e-3  # something was really removed
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)
    assert small.num_parameters() < model.num_parameters()


@EVERY_CUT
def test_a_model_cut_by_structure_equals_the_dense_one_with_the_same_units_zeroed(model_type: str, kind: str) -> None:
    model, family = biased_model(model_type)
    check_equals_zeroed(model, family, cut_shape(family, model.config, kind))


@EVERY_FAMILY
def test_layers_that_each_lose_something_else_equal_those_of_the_dense_model_zeroed(model_type: str) -> None:
    model, family = biased_model(model_type)
    check_equals_zeroed(model, family, uneven_shape(family, model.config))


@EVERY_FAMILY
def test_a_model_without_two_layers_equals_the_dense_one_that_skips_them(model_type: str) -> None:
    model, family = biased_model(model_type)
    shape = without_layers(list(family.widths(model.config)))
    check_equals_zeroed(model, family, shape)
    assert pruned(model, family, shape).config.model_type == model_type


@EVERY_FAMILY
def test_layers_go_and_the_others_are_cut_at_once(model_type: str) -> None:
    model, family = biased_model(model_type)
    check_equals_zeroed(model, family, without_layers(uneven_shape(family, model.config)))


@EVERY_FAMILY
def test_a_pruned_model_can_be_pruned_again(model_type: str) -> None:
    model, family = biased_model(model_type)
    once = pruned(model, family, uneven_shape(family, model.config))
    assert once.config.model_type == family.pruned_model_type
    check_equals_zeroed(once, family, without_layers(uneven_shape(family, once.config)))


@EVERY_FAMILY
@pytest.mark.parametrize("layers", ["all layers", "without two"])
def test_generation_with_and_without_cache_agrees_beyond_the_sliding_window(model_type: str, layers: str) -> None:
    model, family = biased_model(model_type)
    shape = uneven_shape(family, model.config)
    small = pruned(model, family, shape if layers == "all layers" else without_layers(shape))
    ids = some_ids(1, WINDOW + 2)
    settings = {
        "max_new_tokens": 2 * WINDOW, "do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0,
        "eos_token_id": None, "return_dict_in_generate": True, "output_logits": True,
    }  # fmt: skip
    cached, whole = small.generate(ids, **settings), small.generate(ids, use_cache=False, **settings)
    assert cached.sequences.shape == (1, 3 * WINDOW + 2)
    assert torch.equal(cached.sequences, whole.sequences)
    # float32 is what some families' softmax computes in
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(whole.logits), rtol=0, atol=1e-5)


@EVERY_FAMILY
def test_adapters_join_the_reloaded_model_and_it_can_be_saved_again(model_type: str, tmp_path: Path) -> None:
    model, family = small_model(model_type, dtype=torch.float32), find_family(model_type)
    small = pruned(model, family, uneven_shape(family, model.config))
    write_model(small, family, tmp_path / "first", tokenizer_from=tmp_path)
    reloaded = load_model(tmp_path / "first", dtype=torch.float32)
    assert type(reloaded).__name__ == family.model_class
    reloaded.save_pretrained(tmp_path / "second")
    ids = some_ids(2, 3 * WINDOW)
    with torch.no_grad():
        again = load_model(tmp_path / "second", dtype=torch.float32)(ids).logits
        # The products of stacked experts depend on where their weights lie in memory
        torch.testing.assert_close(again, small(ids).logits, rtol=0, atol=1e-6 if model_type == "qwen3_moe" else 0)
    adapted = get_peft_model(reloaded, LoraConfig(target_modules=family.adapted))
    adapted(input_ids=ids, labels=ids).loss.backward()
    ends = {name: tensor for name, tensor in adapted.named_parameters() if ".lora_B." in name}
    layers = family.decoder_layers(small)
    assert len(ends) == sum(len(family.linear_paths(layer)) for layer in layers)
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in ends.values())


@EVERY_FAMILY
def test_attention_and_mlp_can_end_in_a_bias_of_our_own(model_type: str) -> None:
    model, family = small_model(model_type), find_family(model_type)
    shape = without_layers(uneven_shape(family, model.config))
    plain = pruned(model, family, shape)
    biases = output_biases(plain, family)
    small = prune_model(model, family, shape, random_importance(model, family), replacements=biases, output_bias=True)
    for name, bias in biases.items():
        ending = plain.get_submodule(name.removesuffix(".bias"))
        old = 0 if ending.bias is None else ending.bias
        ending.register_forward_hook(lambda module, args, output, old=old, bias=bias: output - old + bias)
    ids = some_ids(2, 3 * WINDOW)
    with torch.no_grad():
        torch.testing.assert_close(small(ids).logits, plain(ids).logits, rtol=0, atol=1e-9)


@EVERY_FAMILY
def test_a_switch_of_the_attention_implementation_reaches_every_layer(model_type: str) -> None:
    model, family = small_model(model_type), find_family(model_type)
    small = pruned(model, family, uneven_shape(family, model.config))
    ids = some_ids(2, 3 * WINDOW)
    with torch.no_grad():
        before = small(ids).logits
        small.set_attn_implementation("eager")
        torch.testing.assert_close(small(ids).logits, before, rtol=0, atol=1e-5)
    configs = [module.config for module in small.modules() if hasattr(module, "config")]
    assert {config._attn_implementation for config in configs} == {"eager"}


def test_a_model_of_an_unknown_family_is_refused_and_told_what_was_not_recognised() -> None:
    bloom = AutoModelForCausalLM.from_config(AutoConfig.for_model("bloom", hidden_size=16, n_head=2, n_layer=1))
    with pytest.raises(UnsupportedArchitectureError) as caught:
        family_of(bloom)
    assert '"bloom"' in str(caught.value)
    assert caught.value.field == "model"
    assert all(name in caught.value.remedy for name in family_names())
