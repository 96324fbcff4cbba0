from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, LayerWidths, Unit, family_names, family_of, linear_weight
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.bias_compensation import compensating_biases
from qpruner_core.prune.surgery import kept_units, prune_model
from tests.core.prune.units import random_importance
from tests.core.small_models import BIASED, small_model

IDS = torch.randint(0, 97, (3, 12), generator=torch.Generator().manual_seed(0))


def _ignore(done: int, total: int) -> None:
    pass


def _compensated(model: PreTrainedModel, shape: Shape) -> PreTrainedModel:
    family = family_of(model)
    importance = random_importance(model, family)
    biases = compensating_biases(model, family, shape, importance, IDS, _ignore)
    return prune_model(model, family, shape, importance, replacements=biases, output_bias=True)


def _mean_output(model: PreTrainedModel, family: Family, layer: int, path: str) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    module = family.decoder_layers(model)[layer].get_submodule(path)
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output.flatten(0, -2)))
    with torch.no_grad():
        for sequence in IDS:
            model(input_ids=sequence[None], use_cache=False)
    handle.remove()
    return torch.cat(seen).mean(0)


def _fewer_heads(widths: LayerWidths) -> LayerWidths:
    per_group = widths.num_attention_heads // widths.num_key_value_heads
    groups = max(widths.num_key_value_heads - 1, 1)
    return widths.model_copy(update={"num_key_value_heads": groups, "num_attention_heads": groups * per_group})


def _fewer_channels(widths: LayerWidths) -> LayerWidths:
    return widths.model_copy(update={"intermediate_size": 24})


# OLMo 2 norms the queries of all heads together, so that the heads that stay change when others go
@pytest.mark.parametrize(
    ("part", "model_type"),
    [
        (part, name)
        for name in family_names()
        for part in ("attention", "mlp")
        if (part, name) != ("attention", "olmo2")
    ],
)
def test_what_ends_in_a_bias_adds_the_same_on_average_as_before(part: str, model_type: str) -> None:
    model = small_model(model_type)
    family = family_of(model)
    widths = family.widths(model.config)
    layer = next(n for n, width in enumerate(widths) if width.intermediate_size > 0)  # a dense MLP, as early as any
    change: Callable[[LayerWidths], LayerWidths] = _fewer_heads if part == "attention" else _fewer_channels
    path = family.attention_output if part == "attention" else family.down
    shape: Shape = [change(width) if n == layer else width for n, width in enumerate(widths)]
    pruned = _compensated(model, shape)
    expected = _mean_output(model, family, layer, path)
    torch.testing.assert_close(_mean_output(pruned, family, layer, path), expected, rtol=1e-9, atol=1e-9)
    importance = random_importance(model, family)
    plain = prune_model(model, family, shape, importance)
    if shape != widths:
        assert (_mean_output(plain, family, layer, path) - expected).norm() > 1e-3 * expected.norm()


@pytest.mark.parametrize("model_type", family_names())
def test_a_model_that_loses_nothing_computes_the_same(model_type: str) -> None:
    model = small_model(model_type)
    same = _compensated(model, list(family_of(model).widths(model.config)))
    with torch.no_grad():
        torch.testing.assert_close(same(input_ids=IDS).logits, model(input_ids=IDS).logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("model_type", "overrides"), [("llama", {}), ("llama", BIASED), ("gpt2", {}), ("opt", {})])
def test_biases_move_with_their_layer_when_layers_before_it_go(model_type: str, overrides: dict[str, bool]) -> None:
    model = small_model(model_type, **overrides)
    family = family_of(model)
    widths = family.widths(model.config)
    shape: Shape = [widths[0], None, _fewer_channels(widths[2]), None, widths[4]]
    importance = random_importance(model, family)
    pruned = _compensated(model, shape)
    down = family.decoder_layers(model)[2].get_submodule(family.down)
    kept = kept_units(widths[2], _fewer_channels(widths[2]), importance[2])[Unit.CHANNEL].tolist()
    seen: list[torch.Tensor] = []
    handle = down.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        model(input_ids=IDS)
    handle.remove()
    expected = torch.zeros(48, dtype=torch.float64) if down.bias is None else down.bias.detach().clone()
    for channel in set(range(40)) - set(kept):
        expected += linear_weight(down)[:, channel] * seen[0][:, channel].mean()
    layers = family.decoder_layers(pruned)
    torch.testing.assert_close(layers[1].get_submodule(family.down).bias.detach(), expected, rtol=1e-9, atol=1e-12)
    for new, old in ((0, 0), (2, 4)):
        for path in (family.attention_output, family.down):
            before = family.decoder_layers(model)[old].get_submodule(path).bias
            bias = layers[new].get_submodule(path).bias
            torch.testing.assert_close(bias, torch.zeros_like(bias) if before is None else before, check_device=False)


def test_experts_that_go_leave_no_bias() -> None:
    model = small_model("qwen3_moe", attention_bias=False)
    family = family_of(model)
    widths = family.widths(model.config)
    shape: Shape = [width.model_copy(update={"num_experts": min(width.num_experts, 4)}) for width in widths]
    biases = compensating_biases(model, family, shape, random_importance(model, family), IDS, _ignore)
    attention = {f"model.layers.{n}.self_attn.o_proj.bias" for n in range(5)}
    assert biases.keys() == attention | {"model.layers.3.mlp.down_proj.bias"}
    assert all(bias.dtype == torch.float64 and not bias.any() for bias in biases.values())
