"""Falcon whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from typing import Any

from transformers import PreTrainedModel
from transformers.models.falcon.configuration_falcon import FalconConfig
from transformers.models.falcon.modeling_falcon import (
    FalconAttention,
    FalconDecoderLayer,
    FalconForCausalLM,
    FalconLinear,
    FalconModel,
)


def key_value_heads(config: FalconConfig) -> int:
    """How many key-value heads a layer really has: without grouping, one for all queries or one for each."""
    if config.new_decoder_architecture:
        return int(config.num_kv_heads)
    return 1 if config.multi_query else int(config.num_attention_heads)


def unsupported(config: FalconConfig) -> str | None:
    """The slopes of ALiBi belong to heads by their place among all, which a layer with fewer heads does not have."""
    return "ALiBi position biases (alibi: true)" if config.alibi else None


FAMILY = {
    "layers": "transformer.h",
    "linears": {
        "self_attention.query_key_value": ("grouped_qkv", "hidden"),
        "self_attention.dense": ("hidden", "query"),
        "mlp.dense_h_to_4h": ("channel", "hidden"),
        "mlp.dense_4h_to_h": ("hidden", "channel"),
    },
    "attention_output": "self_attention.dense",
    "down": "mlp.dense_4h_to_h",
    "fields": {
        "num_attention_heads": "num_attention_heads",
        "num_key_value_heads": "num_kv_heads",
        "intermediate_size": "ffn_hidden_size",
    },
    "explicit_head_dim": False,
    "key_value_heads": key_value_heads,
    "unsupported": unsupported,
}


class QPrunerFalconConfig(FalconConfig):
    """A Falcon configuration with per-layer widths; ``head_dim`` is the width of a head, whatever their number."""

    model_type = "qpruner_falcon"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too
    head_dim: int | None = None  # the stock config works it out from the number of heads


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerFalconConfig) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = config.per_layer_config[index]
            heads, groups = layer.num_attention_heads, key_value_heads(layer)
            # The stock attention divides the hidden size by the number of heads
            layer.num_attention_heads = layer.hidden_size // config.head_dim
            block = FalconDecoderLayer(layer, index)
            set_heads(block.self_attention, heads, groups)
            if getattr(config, "output_bias", False):  # replaces the mean contribution of the removed units
                block.self_attention.dense = biased(block.self_attention.dense)
                block.mlp.dense_4h_to_h = biased(block.mlp.dense_4h_to_h)
            self.base_model.h[index] = block
        self.post_init()

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Switch the layers as well, each of which has a config of its own."""
        super().set_attn_implementation(*args, **kwargs)
        for layer in self.base_model.h:
            layer.self_attention.config._attn_implementation = self.config._attn_implementation


class QPrunerFalconModel(UnevenLayers, FalconModel):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerFalconConfig


class QPrunerFalconForCausalLM(UnevenLayers, FalconForCausalLM):
    """A Falcon model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerFalconConfig


def set_heads(attention: FalconAttention, heads: int, groups: int) -> None:
    """Let the attention have ``heads`` heads of the width that they have, reading ``groups`` key-value heads."""
    bias = attention.query_key_value.bias is not None
    width, fused = heads * attention.head_dim, (heads + 2 * groups) * attention.head_dim
    attention.num_heads, attention.num_kv_heads = heads, groups
    attention.query_key_value = FalconLinear(attention.hidden_size, fused, bias=bias)
    attention.dense = FalconLinear(width, attention.hidden_size, bias=bias)


def biased(linear: FalconLinear) -> FalconLinear:
    """A linear module of the same shape that has a bias."""
    return FalconLinear(linear.in_features, linear.out_features, bias=True)
