"""Which widths a pruning ratio means, worked out from the config alone."""

from __future__ import annotations

from transformers import PretrainedConfig

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import Family, LayerWidths, Unit
from qpruner_core.prune.blocks import Blocks
from qpruner_core.prune.config import PruneConfig


def plan_widths(config: PretrainedConfig, family: Family, settings: PruneConfig, ratio: float) -> list[LayerWidths]:
    """Widths of every layer such that about ``ratio`` of all the layers' weights are removed.

    Protected layers keep their widths, so the others lose more. Attention loses whole units, rounded down; the
    MLP makes up the rest, rounded to ``width_multiple``, so that each layer meets its target within one group.

    Raises:
        InvalidConfigError: no layer is left to prune, or one would lose all its channels.
    """
    blocks = Blocks.of(config, family)
    dense = blocks.widths
    if ratio == 0:
        return dense
    first, last = settings.protect_first, len(dense) - settings.protect_last
    prunable = range(first, last)
    if not prunable:
        raise InvalidConfigError(
            f"All {len(dense)} layers are protected, so nothing can be pruned.",
            field="prune.protect_first",
            remedy="Protect fewer layers, or set prune.ratio to 0.",
        )
    sizes = blocks.layer_parameters
    rate = ratio * sum(sizes) / sum(sizes[index] for index in prunable)
    return [
        _prune_layer(blocks, index, settings, rate) if index in prunable else widths
        for index, widths in enumerate(dense)
    ]


def _prune_layer(blocks: Blocks, layer: int, settings: PruneConfig, rate: float) -> LayerWidths:
    dense = blocks.widths[layer]
    heads, groups = dense.num_attention_heads, dense.num_key_value_heads
    per_group = heads // groups
    if settings.attention_unit == "kv_group":
        groups -= min(int(rate * groups + 1e-9), groups - 1)
        heads = groups * per_group
    elif settings.attention_unit == "query_head":
        heads = groups * (per_group - min(int(rate * per_group + 1e-9), per_group - 1))
    multiple = min(settings.width_multiple, dense.intermediate_size)
    attention_only = LayerWidths(
        num_attention_heads=heads, num_key_value_heads=groups, intermediate_size=dense.intermediate_size
    )
    target = (1 - rate) * blocks.layer_parameters[layer]
    excess = blocks.parameters_of(layer, attention_only) - target
    channels = dense.intermediate_size - excess / blocks.unit_parameters[layer][Unit.CHANNEL]
    kept = min(round(channels / multiple) * multiple, dense.intermediate_size)
    if kept < multiple:
        raise InvalidConfigError(
            f"Removing {rate:.0%} of a layer leaves fewer than {multiple} of its {dense.intermediate_size} channels.",
            field="prune.ratio",
            remedy="Choose a smaller ratio or protect fewer layers.",
        )
    return attention_only.model_copy(update={"intermediate_size": kept})
