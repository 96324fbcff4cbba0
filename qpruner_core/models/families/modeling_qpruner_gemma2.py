"""Gemma 2 whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.gemma2.configuration_gemma2 import Gemma2Config
from transformers.models.gemma2.modeling_gemma2 import Gemma2DecoderLayer, Gemma2ForCausalLM, Gemma2Model

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


class QPrunerGemma2Config(Gemma2Config):
    """A Gemma 2 configuration with per-layer widths; heads need not divide the hidden size."""

    model_type = "qpruner_gemma2"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too

    def validate_architecture(self) -> None:
        """Accept any number of heads: ``head_dim`` is given explicitly."""


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerGemma2Config) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = Gemma2DecoderLayer(config.per_layer_config[index], index)
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


class QPrunerGemma2Model(UnevenLayers, Gemma2Model):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerGemma2Config


class QPrunerGemma2ForCausalLM(UnevenLayers, Gemma2ForCausalLM):
    """A Gemma 2 model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerGemma2Config


def biased(linear: nn.Linear) -> nn.Linear:
    """A linear module of the same shape that has a bias."""
    return nn.Linear(linear.in_features, linear.out_features, bias=True)
