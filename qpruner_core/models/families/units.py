"""The units that pruning removes, and their positions along the dimensions of a layer's parameters."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import torch
from pydantic import NonNegativeInt

from qpruner_core.strict import StrictModel


class Unit(StrEnum):
    """A coupled structure: parameters that must be removed together so that the layer still computes."""

    CHANNEL = "channel"
    QUERY_HEAD = "query_head"
    KEY_VALUE_HEAD = "key_value_head"
    EXPERT = "expert"


class LayerWidths(StrictModel):
    """Number of units of each kind in one layer.

    ``num_experts`` is 0 if the MLP is dense, ``intermediate_size`` if it consists of experts, which stay whole.
    """

    num_attention_heads: NonNegativeInt
    num_key_value_heads: NonNegativeInt
    intermediate_size: NonNegativeInt
    num_experts: NonNegativeInt = 0

    def count(self, unit: Unit) -> int:
        """Number of units of this kind in the layer."""
        count: int = getattr(self, _FIELDS[unit])
        return count


_FIELDS = {
    Unit.CHANNEL: "intermediate_size", Unit.QUERY_HEAD: "num_attention_heads",
    Unit.KEY_VALUE_HEAD: "num_key_value_heads", Unit.EXPERT: "num_experts",
}  # fmt: skip


Axis = Literal["hidden", "query", "key_value", "query|key|value", "grouped_qkv", "channel", "channel|channel", "expert"]
"""Content of a dimension of a parameter.

``hidden``: never cut. ``query``, ``key_value``: heads of ``head_dim`` entries each. ``query|key|value``: the three
stacked (Phi-3, GPT-2). ``grouped_qkv``: for each key-value head its query heads, its key and its value (GPT-NeoX,
Falcon). ``channel|channel``: gate above up (Phi-3). ``expert``: one entry per expert.
"""


def positions(axis: Axis, widths: LayerWidths, head_dim: int) -> dict[Unit, torch.Tensor]:
    """Positions of the units along ``axis``: for each kind, int64 ``[units, entries of one unit]``."""
    heads, groups, channels = widths.num_attention_heads, widths.num_key_value_heads, widths.intermediate_size
    if axis == "hidden":
        return {}
    if axis == "channel":
        return {Unit.CHANNEL: torch.arange(channels).view(channels, 1)}
    if axis == "channel|channel":
        return {Unit.CHANNEL: torch.arange(2 * channels).view(2, channels).T.contiguous()}
    if axis == "expert":
        return {Unit.EXPERT: torch.arange(widths.num_experts).view(-1, 1)}
    if axis == "query":
        return {Unit.QUERY_HEAD: torch.arange(heads * head_dim).view(heads, head_dim)}
    if axis == "key_value":
        return {Unit.KEY_VALUE_HEAD: torch.arange(groups * head_dim).view(groups, head_dim)}
    entries = torch.arange((heads + 2 * groups) * head_dim)
    if axis == "query|key|value":
        queries, keys_values = entries.split([heads * head_dim, 2 * groups * head_dim])
        stacked = keys_values.view(2, groups, head_dim).transpose(0, 1)
        return {
            Unit.QUERY_HEAD: queries.view(heads, head_dim),
            Unit.KEY_VALUE_HEAD: stacked.reshape(groups, 2 * head_dim),
        }
    grouped = entries.view(groups, heads // groups + 2, head_dim)
    return {
        Unit.QUERY_HEAD: grouped[:, :-2].reshape(heads, head_dim),
        Unit.KEY_VALUE_HEAD: grouped[:, -2:].reshape(groups, 2 * head_dim),
    }
