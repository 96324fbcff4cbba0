"""GPT-2 whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from typing import Any

from transformers import PreTrainedModel
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Block, GPT2LMHeadModel, GPT2Model
from transformers.pytorch_utils import Conv1D


def unsupported(config: GPT2Config) -> str | None:
    """A scale that depends on a layer's index would change once a layer before it is removed."""
    if config.scale_attn_by_inverse_layer_idx:
        return "attention scaled by the layer's index (scale_attn_by_inverse_layer_idx: true)"
    return "cross-attention (add_cross_attention: true)" if config.add_cross_attention else None


FAMILY = {
    "layers": "transformer.h",
    "linears": {
        "attn.c_attn": ("query|key|value", "hidden"),
        "attn.c_proj": ("hidden", "query"),
        "mlp.c_fc": ("channel", "hidden"),
        "mlp.c_proj": ("hidden", "channel"),
    },
    "attention_output": "attn.c_proj",
    "down": "mlp.c_proj",
    "fields": {"num_attention_heads": "n_head", "intermediate_size": "n_inner"},
    "explicit_head_dim": False,
    "unsupported": unsupported,
}


class QPrunerGPT2Config(GPT2Config):
    """A GPT-2 configuration with per-layer widths; ``head_dim`` is the width of a head, whatever their number."""

    model_type = "qpruner_gpt2"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerGPT2Config) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = config.per_layer_config[index]
            heads = layer.num_attention_heads
            # The stock attention divides the hidden size by the number of heads
            layer.num_attention_heads = layer.hidden_size // config.head_dim
            block = GPT2Block(layer, index)
            set_heads(block.attn, heads)
            self.base_model.h[index] = block
        self.post_init()

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Switch the layers as well, each of which has a config of its own."""
        super().set_attn_implementation(*args, **kwargs)
        for layer in self.base_model.h:
            layer.attn.config._attn_implementation = self.config._attn_implementation


class QPrunerGPT2Model(UnevenLayers, GPT2Model):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerGPT2Config


class QPrunerGPT2LMHeadModel(UnevenLayers, GPT2LMHeadModel):
    """A GPT-2 model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerGPT2Config


def set_heads(attention: GPT2Attention, heads: int) -> None:
    """Let the attention have ``heads`` heads of the width that they have."""
    attention.num_heads = heads
    attention.split_size = heads * attention.head_dim
    attention.c_attn = Conv1D(3 * attention.split_size, attention.embed_dim)
    attention.c_proj = Conv1D(attention.embed_dim, attention.split_size)
