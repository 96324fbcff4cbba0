"""GPT-NeoX whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.gpt_neox.configuration_gpt_neox import GPTNeoXConfig
from transformers.models.gpt_neox.modeling_gpt_neox import (
    GPTNeoXAttention,
    GPTNeoXForCausalLM,
    GPTNeoXLayer,
    GPTNeoXModel,
)

FAMILY = {
    "layers": "gpt_neox.layers",
    "linears": {
        "attention.query_key_value": ("grouped_qkv", "hidden"),
        "attention.dense": ("hidden", "query"),
        "mlp.dense_h_to_4h": ("channel", "hidden"),
        "mlp.dense_4h_to_h": ("hidden", "channel"),
    },
    "attention_output": "attention.dense",
    "down": "mlp.dense_4h_to_h",
    "fields": {"num_attention_heads": "num_attention_heads", "intermediate_size": "intermediate_size"},
    "explicit_head_dim": False,
}


class QPrunerGPTNeoXConfig(GPTNeoXConfig):
    """A GPT-NeoX configuration with per-layer widths; ``head_dim`` is the width of a head, whatever their number."""

    model_type = "qpruner_gpt_neox"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too

    def validate_architecture(self) -> None:
        """Accept any number of heads: ``head_dim`` is given explicitly."""


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerGPTNeoXConfig) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = config.per_layer_config[index]
            heads = layer.num_attention_heads
            # The stock attention divides the hidden size by the number of heads
            layer.num_attention_heads = layer.hidden_size // config.head_dim
            block = GPTNeoXLayer(layer, index)
            set_heads(block.attention, heads, config)
            self.base_model.layers[index] = block
        self.post_init()

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Switch the layers as well, each of which has a config of its own."""
        super().set_attn_implementation(*args, **kwargs)
        for layer in self.base_model.layers:
            layer.attention.config._attn_implementation = self.config._attn_implementation


class QPrunerGPTNeoXModel(UnevenLayers, GPTNeoXModel):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerGPTNeoXConfig


class QPrunerGPTNeoXForCausalLM(UnevenLayers, GPTNeoXForCausalLM):
    """A GPT-NeoX model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerGPTNeoXConfig


def set_heads(attention: GPTNeoXAttention, heads: int, config: QPrunerGPTNeoXConfig) -> None:
    """Let the attention have ``heads`` heads of the width that they have."""
    width = heads * attention.head_size
    output_bias = config.attention_bias or getattr(config, "output_bias", False)
    attention.query_key_value = nn.Linear(config.hidden_size, 3 * width, bias=config.attention_bias)
    attention.dense = nn.Linear(width, config.hidden_size, bias=output_bias)
