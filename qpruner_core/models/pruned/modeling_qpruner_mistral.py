"""Mistral whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but transformers (5.15 or later).
"""

from transformers.models.mistral.configuration_mistral import MistralConfig
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer, MistralForCausalLM


class QPrunerMistralConfig(MistralConfig):
    """A Mistral configuration with per-layer widths; heads need not divide the hidden size."""

    model_type = "qpruner_mistral"

    def validate_architecture(self) -> None:
        """Accept any number of heads: ``head_dim`` is given explicitly."""


class QPrunerMistralForCausalLM(MistralForCausalLM):
    """A Mistral model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerMistralConfig

    def __init__(self, config: "QPrunerMistralConfig") -> None:
        config.allow_global_per_layer_attribute_access = True
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            self.model.layers[index] = MistralDecoderLayer(config.per_layer_config[index], index)
        self.post_init()
