from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.forward import second_moments as moments_by_rows
from qpruner_core.forward.second_moments import second_moments
from qpruner_core.models.families import Family, LayerWidths, Unit, family_names, family_of, linear_weight, positions
from qpruner_core.models.reshape import Shape
from qpruner_core.prune import refit
from qpruner_core.prune.refit import refitted_weights, ridge
from qpruner_core.prune.surgery import kept_entries, kept_units, prune_model
from tests.core.prune.units import random_importance
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (6, 24), generator=torch.Generator().manual_seed(0))


def _ignore(done: int, total: int) -> None:
    pass


def _inputs(model: PreTrainedModel, module: nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        for sequence in ids:
            model(input_ids=sequence[None], use_cache=False)
    handle.remove()
    return torch.cat(seen)


def _cut_shape(model: PreTrainedModel, family: Family) -> Shape:
    """The second layer gone, the third with fewer channels and heads where it has them to spare."""
    shape: Shape = list(family.widths(model.config))
    wide = shape[2]
    assert wide is not None
    groups = max(wide.num_key_value_heads - 1, 1)
    shape[1] = None
    shape[2] = wide.model_copy(
        update={
            "intermediate_size": wide.intermediate_size and 24,
            "num_key_value_heads": groups,
            "num_attention_heads": wide.num_attention_heads // wide.num_key_value_heads * groups,
        }
    )
    return shape


@pytest.mark.parametrize("model_type", family_names())
def test_refitted_weights_are_the_ridge_solution_of_the_kept_inputs_for_the_old_output(model_type: str) -> None:
    model = small_model(model_type)
    family = family_of(model)
    importance = random_importance(model, family)
    shape = _cut_shape(model, family)
    weights = refitted_weights(model, family, shape, importance, IDS, _ignore)
    layer, old, new = family.decoder_layers(model)[2], family.widths(model.config)[2], shape[2]
    assert new is not None
    expected_names = set()
    for path in family.linear_paths(layer):
        if path not in (family.attention_output, family.down):
            continue
        linear = layer.get_submodule(path)
        places = positions(family.linears[path][1], old, family.head_dim(model.config))
        kept = kept_entries(places, kept_units(old, new, importance[2]))
        inputs, weight = _inputs(model, linear), linear_weight(linear)
        if len(kept) == weight.shape[1]:
            continue
        # The same problem as plain least squares: the ridge is rows that ask for no change
        held = torch.diag((ridge(len(kept), IDS.numel()) * inputs[:, kept].square().sum(0)).sqrt())
        removed = inputs @ weight.T - inputs[:, kept] @ weight[:, kept].T
        rows = torch.cat([inputs[:, kept], held])
        wanted = torch.cat([removed, torch.zeros(len(kept), weight.shape[0], dtype=torch.float64)])
        change = torch.linalg.lstsq(rows, wanted, driver="gelsd").solution.T
        name = f"{family.layers}.1.{path}.weight"
        expected_names.add(name)
        actual = weights[name]
        actual = actual.T if actual.shape != (weight.shape[0], len(kept)) else actual
        torch.testing.assert_close(actual, weight[:, kept] + change, rtol=1e-6, atol=1e-9)
    assert set(weights) == expected_names


@pytest.mark.parametrize("sequences", [2, 3, 4, 6])
def test_a_refit_on_little_text_is_no_worse_on_other_text_than_none(sequences: int) -> None:
    model = small_model("llama", dtype=torch.float32)
    family = family_of(model)
    importance = random_importance(model, family)
    widths = family.widths(model.config)
    shape: Shape = [width.model_copy(update={"intermediate_size": 24}) for width in widths]
    weights = refitted_weights(model, family, shape, importance, IDS[:sequences], _ignore)
    others = torch.randint(0, 97, (20, 24), generator=torch.Generator().manual_seed(1))
    ratios = []
    for index, layer in enumerate(family.decoder_layers(model)):
        linear = layer.get_submodule(family.down)
        kept = kept_units(widths[index], cast(LayerWidths, shape[index]), importance[index])[Unit.CHANNEL]
        inputs, whole = _inputs(model, linear, others), linear_weight(linear)
        wanted = inputs @ whole.T
        fitted = weights[f"{family.layers}.{index}.{family.down}.weight"]
        errors = [(inputs[:, kept] @ weight.T - wanted).norm() for weight in (fitted, whole[:, kept])]
        ratios.append(float(errors[0] / errors[1]))
    assert sum(ratios) < len(ratios)
    assert max(ratios) < 1.2


def test_parts_of_the_model_at_a_time_give_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama", dtype=torch.float32)
    family = family_of(model)
    importance = random_importance(model, family)
    shape: Shape = [width.model_copy(update={"intermediate_size": 16}) for width in family.widths(model.config)]
    whole = refitted_weights(model, family, shape, importance, IDS, _ignore)
    monkeypatch.setattr(refit, "_LEAST_ALLOWANCE", 1)
    monkeypatch.setattr(refit, "_SHARE_OF_WEIGHTS", 10**12)
    progress: list[tuple[int, int]] = []
    parts = refitted_weights(model, family, shape, importance, IDS, lambda done, total: progress.append((done, total)))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert progress == [(done, 5 * len(IDS)) for done in range(1, 5 * len(IDS) + 1)]


def test_a_channel_that_is_always_zero_takes_nothing_over_and_breaks_nothing() -> None:
    model = small_model("llama", dtype=torch.float32)
    family = family_of(model)
    layer = family.decoder_layers(model)[0]
    layer.get_parameter("mlp.up_proj.weight").data[3] = 0
    importance = random_importance(model, family)
    scores = importance[0][next(unit for unit in importance[0] if unit == "channel")]
    scores[3] = 2.0  # kept
    shape: Shape = list(family.widths(model.config))
    first = shape[0]
    assert first is not None
    shape[0] = first.model_copy(update={"intermediate_size": 24})
    weight = refitted_weights(model, family, shape, importance, IDS, _ignore)[f"{family.layers}.0.mlp.down_proj.weight"]
    kept = scores.argsort(descending=True, stable=True)[:24].sort().values
    column = int((kept == 3).nonzero())
    assert torch.equal(weight[:, column], layer.get_parameter("mlp.down_proj.weight").data[:, 3])
    assert weight.isfinite().all()


@pytest.mark.parametrize("model_type", family_names())
def test_a_consumed_model_is_cut_to_the_same_weights_in_the_memory_of_one_part(
    model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(model_type, dtype=torch.float32)
    family = family_of(model)
    importance, shape = random_importance(model, family), _cut_shape(model, family)
    weights = refitted_weights(model, family, shape, importance, IDS, _ignore)
    expected = prune_model(model, family, shape, importance, replacements=weights)
    monkeypatch.setattr(refit, "_LEAST_ALLOWANCE", 1)
    monkeypatch.setattr(refit, "_SHARE_OF_WEIGHTS", 10**12)  # a module at a time
    consumed = copy.deepcopy(model)

    assert refitted_weights(consumed, family, shape, importance, IDS, _ignore, consume=True) == {}

    actual = prune_model(consumed, family, shape, importance)
    for name, tensor in expected.named_parameters():
        assert torch.equal(tensor, actual.get_parameter(name)), name


@pytest.mark.parametrize("rows_at_once", [7, 1000])
def test_second_moments_are_of_each_modules_own_inputs_and_shared_where_these_are_one_tensor(
    rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments_by_rows, "_ROWS_AT_ONCE", rows_at_once)
    model = small_model("llama").float()
    layer = model.model.layers[1]
    query, key, output = layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.o_proj
    gate, up, down = layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj
    found = second_moments(model, [query, key, output, gate, up, down], IDS, _ignore)
    for module in (query, key, output, gate, up, down):
        inputs = _inputs(model, module).float()
        torch.testing.assert_close(found[module], inputs.T @ inputs)
    assert found[query] is found[key]
    assert found[gate] is found[up]
    assert len({id(moments) for moments in found.values()}) == 4


def test_layers_behind_the_last_module_that_is_measured_do_not_run() -> None:
    model = small_model("llama")
    ran: list[int] = []
    for index, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda module, args, index=index: ran.append(index))
    first = model.model.layers[0].mlp.down_proj
    found = second_moments(model, [first], IDS, _ignore)
    assert ran == [0] * len(IDS)
    assert torch.equal(
        found[first], second_moments(model, [first, model.model.layers[1].mlp.up_proj], IDS, _ignore)[first]
    )


def test_an_input_that_is_no_number_is_told_though_the_last_layers_did_not_run() -> None:
    model = small_model("llama")
    model.model.layers[0].self_attn.v_proj.weight.data[0, 0] = torch.inf
    with pytest.raises(NotFiniteError):
        second_moments(model, [model.model.layers[0].self_attn.o_proj], IDS, _ignore)
