"""Llama whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but transformers (5.15 or later).
"""

from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM


class QPrunerLlamaConfig(LlamaConfig):
    """A Llama configuration with per-layer widths; heads need not divide the hidden size."""

    model_type = "qpruner_llama"

    def validate_architecture(self) -> None:
        """Accept any number of heads: ``head_dim`` is given explicitly."""


class QPrunerLlamaForCausalLM(LlamaForCausalLM):
    """A Llama model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerLlamaConfig

    def __init__(self, config: "QPrunerLlamaConfig") -> None:
        config.allow_global_per_layer_attribute_access = True
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            self.model.layers[index] = LlamaDecoderLayer(config.per_layer_config[index], index)
        self.post_init()
