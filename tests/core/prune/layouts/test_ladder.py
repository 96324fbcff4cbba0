"""What the rungs of a ladder remove is what the layer has fewer with their widths."""

from __future__ import annotations

import pytest

from qpruner_core.models.families import family_names, find_family, register_families
from qpruner_core.models.reshape import config_with_shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts.ladder import attention_ladder, mlp_ladder, with_rungs
from tests.core.models.families.shapes import uneven_shape
from tests.core.small_models import small_config


@pytest.mark.parametrize("unit", ["kv_group", "query_head", "none"])
@pytest.mark.parametrize("model_type", family_names())
def test_every_rung_removes_what_a_model_of_its_widths_lacks(model_type: str, unit: str) -> None:
    register_families()
    config, family = small_config(model_type), find_family(model_type)
    settings = PruneConfig(attention_unit=unit, width_multiple=4)
    for shaped in (config, config_with_shape(config, family, uneven_shape(family, config))):
        sizes = LayerSizes.of(shaped, family)
        for layer, widths in enumerate(sizes.widths):
            for ladder in (attention_ladder(sizes, layer, settings), mlp_ladder(sizes, layer, settings)):
                left = [sizes.parameters_of(layer, with_rungs(widths, rung)) for rung in ladder.widths]
                assert ladder.removed == [sizes.layer_parameters[layer] - one for one in left]
                assert ladder.removed[0] == 0
                assert ladder.removed == sorted(ladder.removed)
                narrowest = [*sizes.widths]
                narrowest[layer] = with_rungs(widths, ladder.widths[-1])
                built = LayerSizes.of(config_with_shape(shaped, family, narrowest), family)
                assert sizes.total - built.total == ladder.removed[-1]
