"""What a user is told to do about a ratio that is out of reach."""

from __future__ import annotations

import pytest

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import find_family
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import plan_shape
from tests.core.small_models import small_config


@pytest.mark.parametrize(
    ("model_type", "given_settings", "helps", "no_help"),
    [
        ("llama", {"layout": "depth", "protect_first": 1}, ["prune.protect_first"], ["attention", "multiple"]),
        ("llama", {"layout": "stock", "width_multiple": 8}, ["prune.attention_unit"], ["protect", "multiple"]),
        ("gpt2", {"layout": "stock", "width_multiple": 8}, [], ["protect", "attention", "multiple"]),
        ("llama", {"width_multiple": 64, "protect_first": 1}, ["width_multiple", "protect", "attention"], []),
        ("llama", {"width_multiple": 8, "attention_unit": "kv_group"}, ["protect"], ["attention", "multiple"]),
        ("llama", {"layout": "global", "attention_unit": "none", "protect_first": 0, "protect_last": 0},
         ["prune.attention_unit"], ["protect", "multiple"]),
    ],
)  # fmt: skip
def test_a_ratio_out_of_reach_is_refused_with_what_would_help_under_these_settings(
    model_type: str, given_settings: dict[str, object], helps: list[str], no_help: list[str]
) -> None:
    layer_sizes = LayerSizes.of(small_config(model_type), find_family(model_type))
    config = PruneConfig.model_validate({"protect_last": 1} | given_settings)
    with pytest.raises(InvalidConfigError) as caught:
        plan_shape(layer_sizes, config, 0.9)
    assert caught.value.field == "prune.ratio"
    assert caught.value.remedy.startswith("Choose a smaller ratio")
    assert all(word in caught.value.remedy for word in helps)
    assert not any(word in caught.value.remedy for word in no_help)
