"""OPT whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.opt.configuration_opt import OPTConfig
from transformers.models.opt.modeling_opt import OPTAttention, OPTDecoderLayer, OPTForCausalLM, OPTModel

FAMILY = {
    "layers": "model.decoder.layers",
    "linears": {
        "self_attn.q_proj": ("query", "hidden"),
        "self_attn.k_proj": ("key_value", "hidden"),
        "self_attn.v_proj": ("key_value", "hidden"),
        "self_attn.out_proj": ("hidden", "query"),
        "fc1": ("channel", "hidden"),
        "fc2": ("hidden", "channel"),
    },
    "attention_output": "self_attn.out_proj",
    "down": "fc2",
    "fields": {"num_attention_heads": "num_attention_heads", "intermediate_size": "ffn_dim"},
    "explicit_head_dim": False,
}


class QPrunerOPTConfig(OPTConfig):
    """An OPT configuration with per-layer widths; ``head_dim`` is the width of a head, whatever their number."""

    model_type = "qpruner_opt"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerOPTConfig) -> None:
        super().__init__(config)
        output_bias = config.enable_bias or getattr(config, "output_bias", False)
        for index in range(config.num_hidden_layers):
            layer = config.per_layer_config[index]
            heads = layer.num_attention_heads
            # The stock attention divides the hidden size by the number of heads
            layer.num_attention_heads = layer.hidden_size // config.head_dim
            decoder_layer = OPTDecoderLayer(layer, index)
            set_heads(decoder_layer.self_attn, heads, output_bias)
            decoder_layer.fc2 = nn.Linear(layer.ffn_dim, layer.hidden_size, bias=output_bias)
            self.base_model.decoder.layers[index] = decoder_layer
        self.post_init()

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Switch the layers as well, each of which has a config of its own."""
        super().set_attn_implementation(*args, **kwargs)
        for layer in self.base_model.decoder.layers:
            layer.self_attn.config._attn_implementation = self.config._attn_implementation


class QPrunerOPTModel(UnevenLayers, OPTModel):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerOPTConfig


class QPrunerOPTForCausalLM(UnevenLayers, OPTForCausalLM):
    """An OPT model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerOPTConfig


def set_heads(attention: OPTAttention, heads: int, output_bias: bool) -> None:
    """Let the attention have ``heads`` heads of the width that they have."""
    attention.num_heads = heads
    width = heads * attention.head_dim
    for name in ("q_proj", "k_proj", "v_proj"):
        setattr(attention, name, nn.Linear(attention.embed_dim, width, bias=attention.enable_bias))
    attention.out_proj = nn.Linear(width, attention.embed_dim, bias=output_bias)
