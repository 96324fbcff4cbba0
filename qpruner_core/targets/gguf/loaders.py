"""Models that llama.cpp's loader and graph of each architecture support, and the choice of one for a model.

Written after ``src/models/*.cpp`` of llama.cpp b11434. A loader fails on an unknown tensor or an unexpected shape;
models that its graph computes differently are rejected here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from transformers import PretrainedConfig

from qpruner_core.errors import UnsupportedByTargetError
from qpruner_core.models.checkpoint import TensorShapes
from qpruner_core.models.families import Family, find_family
from qpruner_core.models.gguf.architectures import ARCHITECTURES, DECI, Architecture
from qpruner_core.models.model_config import expected_tensors
from qpruner_core.targets.gguf import keys
from qpruner_core.targets.gguf.keys import Keys
from qpruner_core.targets.gguf.limits import (
    falcon_limit,
    gemma2_limit,
    gemma3_limit,
    gpt2_limit,
    gpt_neox_limit,
    moe_limit,
    no_limit,
    smollm3_limit,
    untied_limit,
)
from qpruner_core.targets.gguf.refusal import STOCK_LAYOUT, Refusal
from qpruner_core.targets.gguf.rope import rotated_part, unknown_rope

_QKV = ("attn_q", "attn_k", "attn_v")
_ALL = (*_QKV, "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_FUSED = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
_NORMS = ("attn_norm", "attn_norm_2", "ffn_norm", "output_norm")
_SILU, _GELU = ("silu", "swish"), ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
_MOST_LAYERS = 512


@dataclass(frozen=True)
class Loader:
    """Loader of one architecture in llama.cpp.

    ``name``: its name in the file. ``declared``: names and layouts of its tensors. ``own_keys``: metadata beyond sizes.
    ``biases``: names within a layer (and of the final norm) that may have one. ``activations``: of the MLP, by the
    names in transformers. ``every_head``: heads must fill the hidden size. ``by_layer``: layers may differ in width.
    ``partly_rotated``: a part of each head may be rotated. ``windows``: it supports windows. ``limit``: other
    unsupported features of a config.
    """

    name: str
    declared: Architecture
    own_keys: Callable[[PretrainedConfig], Keys] = keys.no_keys
    biases: Collection[str] = _QKV
    activations: Collection[str] = _SILU
    every_head: bool = False
    by_layer: bool = False
    partly_rotated: bool = False
    windows: bool = False
    limit: Callable[[PretrainedConfig], str | None] = no_limit

    def keys(self, config: PretrainedConfig) -> Keys:
        """The metadata of ``config`` below the architecture's name."""
        family = find_family(config.model_type)
        sizes = keys.size_keys(config, family, by_layer=self.by_layer, windows=self.windows)
        return sizes | self.own_keys(config)

    def refusal(self, config: PretrainedConfig, expected: TensorShapes) -> Refusal | None:
        """Reason why it does not support a model of ``config`` with tensors ``expected``; ``None`` if it does."""
        limit = self.limit(config)
        if limit is not None:
            return Refusal(limit)
        family = find_family(config.model_type)
        return self._width_refusal(config, family) or self._other_refusal(config, expected)

    def _width_refusal(self, config: PretrainedConfig, family: Family) -> Refusal | None:
        widths = family.widths(config)
        kind = family.model_type
        if len(widths) > _MOST_LAYERS:
            return Refusal(f"llama.cpp supports at most {_MOST_LAYERS} layers, but the model has {len(widths)}.")
        if not self.by_layer and any(layer != widths[0] for layer in widths):
            return Refusal(
                f"In llama.cpp all layers of {kind} models have the same width.", STOCK_LAYOUT, "prune.layout"
            )
        if self.by_layer and any(not (layer.num_attention_heads and layer.intermediate_size) for layer in widths):
            return Refusal("llama.cpp requires attention and an MLP in every layer.", STOCK_LAYOUT, "prune.layout")
        width = widths[0].num_attention_heads * family.head_dim(config)
        if self.every_head and width != config.hidden_size:
            return Refusal(
                f"In llama.cpp the attention heads of {kind} models must fill the hidden size ({width} of "
                f"{config.hidden_size} entries are left).",
                'Choose "none", or another target.',
                "prune.attention_unit",
            )
        return None

    def _other_refusal(self, config: PretrainedConfig, expected: TensorShapes) -> Refusal | None:
        activation = _activation(config)
        if activation not in self.activations:
            return Refusal(f"llama.cpp does not compute {self.name} models with the activation {activation!r}.")
        scaling = unknown_rope(config)
        if scaling is not None:
            return Refusal(f"llama.cpp does not compute rotary positions of the type {scaling!r}.")
        if not self.partly_rotated and rotated_part(config) != 1:
            return Refusal(f"llama.cpp rotates heads of {self.name} models as a whole.")
        return self._tensor_refusal(expected, bool(getattr(config, "output_bias", False)))

    def _tensor_refusal(self, expected: TensorShapes, output_bias: bool) -> Refusal | None:
        for parameter in expected:
            names = self.declared.stored_names(parameter)
            if not names:
                return Refusal(f"GGUF does not support the parameter {parameter!r}.")
            stem = names[0].removesuffix(".bias").rpartition(".")[2]
            if names[0].endswith(".bias") and stem not in (*self.biases, *_NORMS):
                reason = f"llama.cpp does not support a bias there ({parameter!r})."
                compensation = output_bias and stem in ("attn_output", "ffn_down")
                remedy = 'Choose "refit" or "none", or another target.'
                return Refusal(reason, remedy, "prune.compensation") if compensation else Refusal(reason)
        return None


def loader_of(config: PretrainedConfig) -> Loader:
    """The loader for a model of ``config``: the family's own, or ``deci`` if layers differ.

    Raises:
        UnsupportedByTargetError: there is none.
        UnsupportedArchitectureError: no family declares the model.
    """
    family = find_family(config.model_type).model_type
    if family not in LOADERS:
        raise Refusal(f"llama.cpp has no architecture for {family} models.").error()
    expected = expected_tensors(config)
    refusals = []
    for loader in LOADERS[family]:
        refusal = loader.refusal(config, expected)
        if refusal is None:
            return loader
        refusals.append(refusal)
    raise refusals[0].error()


def supports(config: PretrainedConfig) -> Refusal | None:
    """Reason why a model of ``config``, dense or pruned, cannot be a GGUF file; ``None`` if it can. Takes no memory for
    weights."""
    try:
        loader_of(config)
    except UnsupportedByTargetError as error:
        return Refusal(error.message, error.remedy, error.field or "target")
    return None


def _activation(config: PretrainedConfig) -> str:
    names = ("hidden_activation", "hidden_act", "activation_function", "activation")
    return next((str(found) for name in names if (found := getattr(config, name, None)) is not None), "")


_LLAMA = Loader("llama", ARCHITECTURES["llama"], biases=_ALL)

LOADERS: dict[str, tuple[Loader, ...]] = {
    "falcon": (
        Loader("falcon", ARCHITECTURES["falcon"], keys.falcon_keys, (), _GELU, every_head=True, limit=falcon_limit),
    ),
    "gemma2": (
        Loader(
            "gemma2", ARCHITECTURES["gemma2"], keys.gemma2_keys, activations=_GELU, windows=True, limit=gemma2_limit
        ),
    ),
    "gemma3_text": (
        Loader(
            "gemma3", ARCHITECTURES["gemma3"], keys.gemma3_keys, activations=_GELU, windows=True, limit=gemma3_limit
        ),
    ),
    "gpt2": (Loader("gpt2", ARCHITECTURES["gpt2"], keys.no_keys, _FUSED, _GELU, every_head=True, limit=gpt2_limit),),
    "gpt_neox": (
        Loader(
            "gptneox", ARCHITECTURES["gptneox"], keys.gpt_neox_keys, _FUSED, _GELU, every_head=True,
            partly_rotated=True, limit=gpt_neox_limit,
        ),
    ),
    "granite": (Loader("granite", ARCHITECTURES["granite"], keys.granite_keys, _ALL),),
    "llama": (_LLAMA, Loader("deci", DECI["llama"], biases=_ALL, by_layer=True)),
    "mistral": (_LLAMA, Loader("deci", DECI["llama"], biases=_ALL, by_layer=True)),
    "olmo2": (Loader("olmo2", ARCHITECTURES["olmo2"], every_head=True, limit=untied_limit),),
    "phi3": (
        Loader(
            "phi3", ARCHITECTURES["phi3"], keys.phi3_keys, ("attn_qkv",), every_head=True, partly_rotated=True
        ),
        Loader("deci", DECI["phi3"], biases=_ALL, by_layer=True),
    ),
    "qwen2": (
        Loader("qwen2", ARCHITECTURES["qwen2"], every_head=True),
        Loader("deci", DECI["qwen2"], biases=_ALL, by_layer=True),
    ),
    "qwen3": (Loader("qwen3", ARCHITECTURES["qwen3"]),),
    "qwen3_moe": (Loader("qwen3moe", ARCHITECTURES["qwen3moe"], keys.qwen3_moe_keys, limit=moe_limit),),
    "smollm3": (Loader("smollm3", ARCHITECTURES["smollm3"], limit=smollm3_limit),),
}  # fmt: skip
"""Candidate loaders of a family, by its ``model_type``: first its own, then a more general one."""
