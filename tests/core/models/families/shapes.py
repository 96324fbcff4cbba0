"""Shapes to prune a family's small model to, worked out from what its layers have."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PretrainedConfig

from qpruner_core.models.families import Family, LayerWidths
from qpruner_core.models.reshape import Shape

Cutter = Callable[[LayerWidths, int], LayerWidths]
"""Widths of a layer and a step -> less of one kind; the larger the step the less, round and round, and never none."""


def _kv_groups(widths: LayerWidths, step: int) -> LayerWidths:
    groups = widths.num_key_value_heads - step % widths.num_key_value_heads
    per_group = widths.num_attention_heads // widths.num_key_value_heads
    return widths.model_copy(update={"num_key_value_heads": groups, "num_attention_heads": groups * per_group})


def _query_heads(widths: LayerWidths, step: int) -> LayerWidths:
    per_group = widths.num_attention_heads // widths.num_key_value_heads
    heads = widths.num_key_value_heads * (per_group - step % per_group)
    return widths.model_copy(update={"num_attention_heads": heads})


def _channels(widths: LayerWidths, step: int) -> LayerWidths:
    channels = widths.intermediate_size
    return widths.model_copy(update={"intermediate_size": channels - 7 * step % channels}) if channels else widths


def _experts(widths: LayerWidths, step: int) -> LayerWidths:
    if not widths.num_experts:
        return widths
    return widths.model_copy(update={"num_experts": widths.num_experts - step % 3})


CUTTERS: dict[str, Cutter] = {
    "kv_group": _kv_groups, "query_head": _query_heads, "channel": _channels, "expert": _experts,
}  # fmt: skip


def possible_cuts(family: Family, config: PretrainedConfig) -> list[str]:
    """The kinds of cuts that change anything in a model with ``config``: one key-value head is no group to remove."""
    dense = family.widths(config)
    return [name for name, cut in CUTTERS.items() if any(cut(layer, 1) != layer for layer in dense)]


def cut_shape(family: Family, config: PretrainedConfig, kind: str) -> Shape:
    """Layer i loses about i units of this kind, the first layer none."""
    return [CUTTERS[kind](layer, index) for index, layer in enumerate(family.widths(config))]


def uneven_shape(family: Family, config: PretrainedConfig) -> Shape:
    """Every layer loses something of everything it has, each something else."""
    shape: Shape = []
    for index, layer in enumerate(family.widths(config)):
        attention = _kv_groups if index % 2 else _query_heads
        shape.append(_experts(_channels(attention(layer, index // 2 + 1), index + 1), index + 1))
    return shape


def even_shape(family: Family, config: PretrainedConfig) -> Shape:
    """Every layer loses the same: a group where the stock code lets heads go, and channels or experts."""
    shape: Shape = []
    for layer in family.widths(config):
        fewer = _kv_groups(layer, 1) if family.explicit_head_dim else layer
        shape.append(_experts(_channels(fewer, 1), 1))
    return shape


def without_layers(shape: Shape) -> Shape:
    """``shape`` without its second and its fourth layer."""
    return [None if index in (1, 3) else widths for index, widths in enumerate(shape)]
