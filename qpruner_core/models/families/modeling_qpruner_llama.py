"""Llama whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from types import SimpleNamespace
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaModel

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


class QPrunerLlamaConfig(LlamaConfig):
    """A Llama configuration with per-layer widths; heads need not divide the hidden size."""

    model_type = "qpruner_llama"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too

    def validate_architecture(self) -> None:
        """Accept any number of heads: ``head_dim`` is given explicitly."""

    @property
    def block_configs(self) -> list[SimpleNamespace] | None:
        """The layers as vLLM's ``DeciLMForCausalLM`` reads them: a Llama with an MLP width of each layer's own.

        ``None`` where that would be another model.
        """
        heads = (self.num_attention_heads, self.num_key_value_heads)
        layers = [self.per_layer_config[index] for index in range(self.num_hidden_layers)]
        alike = all((one.num_attention_heads, one.num_key_value_heads) == heads for one in layers)
        if not alike or self.hidden_act != "silu" or getattr(self, "output_bias", False):
            return None
        attention = SimpleNamespace(no_op=False, n_heads_in_group=heads[0] // heads[1])
        widths = [SimpleNamespace(no_op=False, intermediate_size=one.intermediate_size) for one in layers]
        return [SimpleNamespace(attention=attention, ffn=width) for width in widths]


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerLlamaConfig) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = LlamaDecoderLayer(config.per_layer_config[index], index)
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


class QPrunerLlamaModel(UnevenLayers, LlamaModel):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerLlamaConfig


class QPrunerLlamaForCausalLM(UnevenLayers, LlamaForCausalLM):
    """A Llama model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerLlamaConfig


def biased(linear: nn.Linear) -> nn.Linear:
    """A linear module of the same shape that has a bias."""
    return nn.Linear(linear.in_features, linear.out_features, bias=True)
