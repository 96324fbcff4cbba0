"""Granite whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.granite.configuration_granite import GraniteConfig
from transformers.models.granite.modeling_granite import GraniteDecoderLayer, GraniteForCausalLM, GraniteModel

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


class QPrunerGraniteConfig(GraniteConfig):
    """A Granite configuration with per-layer widths."""

    model_type = "qpruner_granite"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too

    @property
    def logit_scale(self) -> float:
        """Factor of vLLM's transformers backend for logits, which the model divides by ``logits_scaling``."""
        return 1 / float(self.logits_scaling)


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerGraniteConfig) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = GraniteDecoderLayer(config.per_layer_config[index], index)
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


class QPrunerGraniteModel(UnevenLayers, GraniteModel):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerGraniteConfig


class QPrunerGraniteForCausalLM(UnevenLayers, GraniteForCausalLM):
    """A Granite model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerGraniteConfig


def biased(linear: nn.Linear) -> nn.Linear:
    """A linear module of the same shape that has a bias."""
    return nn.Linear(linear.in_features, linear.out_features, bias=True)
