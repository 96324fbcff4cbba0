"""Qwen3-MoE whose layers may differ in attention heads, experts and dense MLP width, as ``config.per_layer_config``
says.

Travels with the checkpoint and needs nothing but torch and transformers (5.15 or later).
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.models.qwen3_moe.configuration_qwen3_moe import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeDecoderLayer, Qwen3MoeForCausalLM, Qwen3MoeModel


def sparse(config: Qwen3MoeConfig, index: int) -> bool:
    """Whether layer ``index`` has experts in place of a dense MLP."""
    every = config.num_experts > 0 and (index + 1) % config.decoder_sparse_step == 0
    return every and index not in config.mlp_only_layers


def kept_layers(config: Qwen3MoeConfig, kept: list[int]) -> dict[str, object]:
    """Which layers are dense once only those of the indices ``kept`` stay: named one by one."""
    dense = [new for new, old in enumerate(kept) if not sparse(config.per_layer_config[old], old)]
    return {"mlp_only_layers": dense, "decoder_sparse_step": 1}


FAMILY = {
    "linears": {
        "self_attn.q_proj": ("query", "hidden"),
        "self_attn.k_proj": ("key_value", "hidden"),
        "self_attn.v_proj": ("key_value", "hidden"),
        "self_attn.o_proj": ("hidden", "query"),
        "mlp.gate_proj": ("channel", "hidden"),
        "mlp.up_proj": ("channel", "hidden"),
        "mlp.down_proj": ("hidden", "channel"),
        "mlp.experts.*.gate_proj": ("hidden", "hidden"),  # pruning removes whole experts
        "mlp.experts.*.up_proj": ("hidden", "hidden"),
        "mlp.experts.*.down_proj": ("hidden", "hidden"),
    },
    "parameters": {
        "mlp.gate.weight": "expert",
        "mlp.experts.gate_up_proj": "expert",
        "mlp.experts.down_proj": "expert",
    },
    "fields": {
        "num_attention_heads": "num_attention_heads",
        "num_key_value_heads": "num_key_value_heads",
        "intermediate_size": "intermediate_size",
        "num_experts": "num_local_experts",  # what the config calls it in its own files
    },
    "sparse": sparse,
    "kept_layers": kept_layers,
}


class QPrunerQwen3MoeConfig(Qwen3MoeConfig):
    """A Qwen3-MoE configuration with per-layer widths; heads need not divide the hidden size."""

    model_type = "qpruner_qwen3_moe"
    allow_global_per_layer_attribute_access = True  # vLLM reads widths of the whole model, too

    def validate_architecture(self) -> None:
        """Accept any number of heads: ``head_dim`` is given explicitly."""


class UnevenLayers(PreTrainedModel):
    """Builds layer i from ``config.per_layer_config[i]``."""

    def __init__(self, config: QPrunerQwen3MoeConfig) -> None:
        super().__init__(config)
        for index in range(config.num_hidden_layers):
            layer = Qwen3MoeDecoderLayer(config.per_layer_config[index], index)
            if getattr(config, "output_bias", False):  # replaces the mean contribution of the removed units
                layer.self_attn.o_proj = biased(layer.self_attn.o_proj)
                if hasattr(layer.mlp, "down_proj"):
                    layer.mlp.down_proj = biased(layer.mlp.down_proj)
            self.base_model.layers[index] = layer
        self.post_init()

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        """Yes: the layers are the stock ones, for whose decorator transformers would look in this file."""
        return True

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Switch the layers as well, each of which has a config of its own."""
        super().set_attn_implementation(*args, **kwargs)
        for layer in self.base_model.layers:
            layer.self_attn.config._attn_implementation = self.config._attn_implementation


class QPrunerQwen3MoeModel(UnevenLayers, Qwen3MoeModel):
    """The model without its head, which vLLM's transformers backend builds."""

    config_class = QPrunerQwen3MoeConfig


class QPrunerQwen3MoeForCausalLM(UnevenLayers, Qwen3MoeForCausalLM):
    """A Qwen3-MoE model that builds layer i from ``config.per_layer_config[i]``."""

    config_class = QPrunerQwen3MoeConfig


def biased(linear: nn.Linear) -> nn.Linear:
    """A linear module of the same shape that has a bias."""
    return nn.Linear(linear.in_features, linear.out_features, bias=True)
