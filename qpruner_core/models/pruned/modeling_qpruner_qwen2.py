"""Qwen2 whose layers may differ in attention heads and MLP width, as ``config.per_layer_config`` says.

Travels with the checkpoint and needs nothing but transformers (5.15 or later).
"""

from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2ForCausalLM


class QPrunerQwen2Config(Qwen2Config):
    """A Qwen2 configuration with per-layer widths; heads need not divide the hidden size."""

    model_type = "qpruner_qwen2"

    def validate_architecture(self) -> None:
        """Accept any number of heads: ``head_dim`` is given explicitly."""


class QPrunerQwen2ForCausalLM(Qwen2ForCausalLM):
    """A Qwen2 model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerQwen2Config

    def __init__(self, config: "QPrunerQwen2Config") -> None:
        config.allow_global_per_layer_attribute_access = True
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            self.model.layers[index] = Qwen2DecoderLayer(config.per_layer_config[index], index)
        self.post_init()
