"""What the pipeline must know of an architecture: one declaration a family.

All families here are decoders with grouped-query attention and a gated MLP, with separate projections.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.errors import UnsupportedArchitectureError
from qpruner_core.strict import StrictModel


class LayerWidths(StrictModel):
    """The widths of one layer, under the names that its config fields have."""

    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int


@dataclass(frozen=True)
class Family:
    """Where a family keeps its coupled structures. Paths are relative to a decoder layer."""

    model_type: str
    pruned_model_type: str
    layers: str = "model.layers"
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    attention_output: str = "self_attn.o_proj"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"

    @property
    def linears(self) -> tuple[str, ...]:
        """Paths of the linear modules of a layer that pruning slices, precision applies to and adapters join."""
        return (self.query, self.key, self.value, self.attention_output, self.gate, self.up, self.down)

    def linears_of(self, layer: nn.Module) -> list[nn.Linear]:
        """The linear modules of a decoder layer, in the order of :attr:`linears`."""
        return [cast(nn.Linear, layer.get_submodule(path)) for path in self.linears]

    @property
    def pruned_class_prefix(self) -> str:
        """The stem of the class names in the family's modeling file."""
        return "QPruner" + self.model_type.title()

    def decoder_layers(self, model: nn.Module) -> list[nn.Module]:
        """The decoder layers of ``model``, first to last."""
        return list(model.get_submodule(self.layers).children())

    def head_dim(self, config: PretrainedConfig) -> int:
        """Width of one attention head."""
        return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    def widths(self, config: PretrainedConfig) -> list[LayerWidths]:
        """The widths of every layer of a model with ``config``, dense or pruned."""
        return [
            LayerWidths(
                num_attention_heads=layer.num_attention_heads,
                num_key_value_heads=layer.num_key_value_heads,
                intermediate_size=layer.intermediate_size,
            )
            for layer in config.per_layer_config
        ]

    def layer_parameters(self, config: PretrainedConfig, widths: LayerWidths) -> int:
        """Weights (no biases) of the linear modules of a layer with ``widths``."""
        head = self.head_dim(config)
        attention = 2 * (widths.num_attention_heads + widths.num_key_value_heads) * head * config.hidden_size
        return int(attention + 3 * widths.intermediate_size * config.hidden_size)


_LLAMA = Family(model_type="llama", pruned_model_type="qpruner_llama")
FAMILIES: tuple[Family, ...] = (
    _LLAMA,
    replace(_LLAMA, model_type="mistral", pruned_model_type="qpruner_mistral"),
    replace(_LLAMA, model_type="qwen2", pruned_model_type="qpruner_qwen2"),
)


def find_family(model_type: str) -> Family:
    """The family of a dense or pruned ``model_type``.

    Raises:
        UnsupportedArchitectureError: no family declares it.
    """
    for family in FAMILIES:
        if model_type in (family.model_type, family.pruned_model_type):
            return family
    known = ", ".join(family.model_type for family in FAMILIES)
    raise UnsupportedArchitectureError(
        f'The architecture "{model_type}" is not supported.', field="model", remedy=f"Supported: {known}."
    )


def family_of(model: PreTrainedModel) -> Family:
    """The family of a loaded model."""
    return find_family(model.config.model_type)
