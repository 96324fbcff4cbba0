"""Qwen2 whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2ForCausalLM, Qwen2Model

FAMILY = {
    "linears": {
        "self_attn.q_proj": ("query", "hidden"),
        "self_attn.k_proj": ("key_value", "hidden"),
        "self_attn.v_proj": ("key_value", "hidden"),
        "self_attn.o_proj": ("hidden", "query"),
        "mlp.gate_proj": ("channel", "hidden"),
        "mlp.up_proj": ("channel", "hidden"),
        "mlp.down_proj": ("hidden", "channel"),
    },
}


class QPrunerQwen2Config(Qwen2Config):
    """A Qwen2 configuration with per-layer widths."""

    model_type = "qpruner_qwen2"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerQwen2Config) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = Qwen2DecoderLayer(config.per_layer_config[index], index)
            if getattr(config, "output_bias", False):  # replaces the mean contribution of the removed units
                layer.self_attn.o_proj = biased(layer.self_attn.o_proj)
                layer.mlp.down_proj = biased(layer.mlp.down_proj)
            self.base_model.layers[index] = layer
        self.post_init()

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Switch the layers as well, each of which has a config of its own."""
        super().set_attn_implementation(*args, **kwargs)
        for layer in self.base_model.layers:
            layer.self_attn.config._attn_implementation = self.config._attn_implementation


class QPrunerQwen2Model(UnevenLayers, Qwen2Model):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerQwen2Config


class QPrunerQwen2ForCausalLM(UnevenLayers, Qwen2ForCausalLM):
    """A Qwen2 model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerQwen2Config


def biased(linear: nn.Linear) -> nn.Linear:
    """A linear module of the same shape that has a bias."""
    return nn.Linear(linear.in_features, linear.out_features, bias=True)
