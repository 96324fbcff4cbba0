"""Phi-3 whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).

Its queries, keys and values come from one projection, and so do gate and up.
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.phi3.configuration_phi3 import Phi3Config
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer, Phi3ForCausalLM, Phi3Model

FAMILY = {
    "linears": {
        "self_attn.qkv_proj": ("query|key|value", "hidden"),
        "self_attn.o_proj": ("hidden", "query"),
        "mlp.gate_up_proj": ("channel|channel", "hidden"),
        "mlp.down_proj": ("hidden", "channel"),
    },
}


class QPrunerPhi3Config(Phi3Config):
    """A Phi-3 configuration with per-layer widths."""

    model_type = "qpruner_phi3"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerPhi3Config) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = Phi3DecoderLayer(config.per_layer_config[index], index)
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


class QPrunerPhi3Model(UnevenLayers, Phi3Model):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerPhi3Config


class QPrunerPhi3ForCausalLM(UnevenLayers, Phi3ForCausalLM):
    """A Phi-3 model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerPhi3Config


def biased(linear: nn.Linear) -> nn.Linear:
    """A linear module of the same shape that has a bias."""
    return nn.Linear(linear.in_features, linear.out_features, bias=True)
