"""Which widths a pruning ratio means, worked out from the config alone."""

from __future__ import annotations

from transformers import PretrainedConfig

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import Family, LayerWidths
from qpruner_core.prune.config import PruneConfig


def plan_widths(config: PretrainedConfig, family: Family, settings: PruneConfig, ratio: float) -> list[LayerWidths]:
    """Widths of every layer such that about ``ratio`` of all the layers' weights are removed.

    Protected layers keep their widths, so the others lose more. Attention loses whole units, rounded down; the
    MLP makes up the rest, rounded to ``width_multiple``, so that each layer meets its target within one group.

    Raises:
        InvalidConfigError: no layer is left to prune, or one would lose all its channels.
    """
    dense = family.widths(config)
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
    sizes = [family.layer_parameters(config, widths) for widths in dense]
    rate = ratio * sum(sizes) / sum(sizes[index] for index in prunable)
    return [
        _prune_layer(config, family, settings, widths, rate) if index in prunable else widths
        for index, widths in enumerate(dense)
    ]


def _prune_layer(
    config: PretrainedConfig, family: Family, settings: PruneConfig, dense: LayerWidths, rate: float
) -> LayerWidths:
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
    target = (1 - rate) * family.layer_parameters(config, dense)
    excess = family.layer_parameters(config, attention_only) - target
    channels = dense.intermediate_size - excess / (3 * config.hidden_size)
    kept = min(round(channels / multiple) * multiple, dense.intermediate_size)
    if kept < multiple:
        raise InvalidConfigError(
            f"Removing {rate:.0%} of a layer leaves fewer than {multiple} of its {dense.intermediate_size} channels.",
            field="prune.ratio",
            remedy="Choose a smaller ratio or protect fewer layers.",
        )
    return attention_only.model_copy(update={"intermediate_size": kept})


def removed_fraction(config: PretrainedConfig, family: Family, widths: list[LayerWidths]) -> float:
    """The fraction of the layers' weights that ``widths`` removes from the dense model with ``config``."""
    dense = sum(family.layer_parameters(config, layer) for layer in family.widths(config))
    kept = sum(family.layer_parameters(config, layer) for layer in widths)
    return 1 - kept / dense
