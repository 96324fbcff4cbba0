"""OLMo 2 whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).

Its query and key norms run over all heads together. They are cut along with the heads, so that their mean square is
that of the heads that stay: about what it was. Zeroing heads instead would lower it and make the others larger.
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.olmo2.configuration_olmo2 import Olmo2Config
from transformers.models.olmo2.modeling_olmo2 import Olmo2DecoderLayer, Olmo2ForCausalLM, Olmo2Model

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
    "parameters": {"self_attn.q_norm.weight": "query", "self_attn.k_norm.weight": "key_value"},
}


class QPrunerOlmo2Config(Olmo2Config):
    """An OLMo 2 configuration with per-layer widths."""

    model_type = "qpruner_olmo2"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerOlmo2Config) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = Olmo2DecoderLayer(config.per_layer_config[index], index)
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


class QPrunerOlmo2Model(UnevenLayers, Olmo2Model):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerOlmo2Config


class QPrunerOlmo2ForCausalLM(UnevenLayers, Olmo2ForCausalLM):
    """An OLMo 2 model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerOlmo2Config


def biased(linear: nn.Linear) -> nn.Linear:
    """A linear module of the same shape that has a bias."""
    return nn.Linear(linear.in_features, linear.out_features, bias=True)
