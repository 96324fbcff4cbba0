"""Pruning a model in memory, by every layout, in one step and in several."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PretrainedConfig

from qpruner_core.models.families import find_family
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import LAYOUTS
from qpruner_core.prune.pruning import PruningOptions, prune_to_ratio
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (2, 16), generator=torch.Generator().manual_seed(0))
OVERRIDES: dict[str, Any] = {"intermediate_size": 128, "num_hidden_layers": 8}
BASE = {"protect_first": 1, "protect_last": 1, "width_multiple": 8}


def config_of(**given: Any) -> PruneConfig:
    return PruneConfig.model_validate(BASE | given)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_model_has_the_widths_that_are_told_and_runs(layout: str, steps: int) -> None:
    model, family = small_model("llama", dtype=torch.float32, **OVERRIDES), find_family("llama")
    told: list[tuple[float, str]] = []
    pruned, left = prune_to_ratio(
        model, family, config_of(layout=layout, steps=steps), 0.3, IDS,
        PruningOptions(on_progress=lambda *progress: told.append(progress)),
    )  # fmt: skip
    assert family.widths(pruned.config) == left.widths
    measured = sum(tensor.numel() for layer in family.decoder_layers(pruned) for tensor in layer.parameters())
    assert measured == left.total
    assert abs(left.removed_fraction() - 0.3) < 0.07
    assert torch.isfinite(pruned(IDS).logits).all()
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1][0] == pytest.approx(1.0)
    if steps > 1:
        assert told[-1][1].startswith("step 3 of 3")


@pytest.mark.parametrize("layout", ["same_ratio", "global", "stock"])
def test_whole_layers_go_first_and_width_makes_up_the_rest(layout: str) -> None:
    model, family = small_model("llama", dtype=torch.float32, **OVERRIDES), find_family("llama")
    pruned, left = prune_to_ratio(model, family, config_of(layout=layout, remove_layers=2), 0.4, IDS)
    assert pruned.config.num_hidden_layers == len(left.indices) == 6
    assert {0, 7} <= set(left.indices)
    assert left.removed_fraction() == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("steps", [1, 2])
def test_compensated_pruning_gives_every_layer_biases_that_change_the_output(steps: int) -> None:
    family = find_family("llama")
    plain, _ = prune_to_ratio(
        small_model("llama", dtype=torch.float32, **OVERRIDES),
        family,
        config_of(criterion="flap", steps=steps, compensation="none"),
        0.3,
        IDS,
    )
    pruned, _ = prune_to_ratio(
        small_model("llama", dtype=torch.float32, **OVERRIDES), family,
        config_of(criterion="flap", steps=steps, compensation="bias"), 0.3, IDS,
    )  # fmt: skip
    for layer in family.decoder_layers(pruned)[1:-1]:
        assert layer.get_parameter(f"{family.down}.bias").abs().max() > 0
    assert family.decoder_layers(pruned)[0].get_parameter(f"{family.down}.bias").abs().max() == 0
    assert family.decoder_layers(plain)[1].get_submodule(family.down).bias is None
    assert not torch.equal(plain(IDS).logits, pruned(IDS).logits)


@pytest.mark.parametrize("layout", ["same_ratio", "global", "depth"])
def test_more_is_removed_until_the_model_fits(layout: str) -> None:
    model, family = small_model("llama", dtype=torch.float32, **OVERRIDES), find_family("llama")
    layer_sizes = LayerSizes.of(model.config, family)

    def meets_budget(config: PretrainedConfig) -> bool:
        return LayerSizes.of(config, family).total <= 0.6 * layer_sizes.total

    pruned, left = prune_to_ratio(
        model, family, config_of(layout=layout), 0.3, IDS, PruningOptions(meets_budget=meets_budget)
    )
    assert left.total <= 0.6 * layer_sizes.total
    assert left.removed_fraction() < 0.6
    assert LayerSizes.of(pruned.config, family).total == left.total


def test_a_ratio_of_zero_gives_back_the_same_model() -> None:
    model = small_model("llama", dtype=torch.float32)
    assert prune_to_ratio(model, find_family("llama"), config_of(), 0.0, IDS)[0] is model
