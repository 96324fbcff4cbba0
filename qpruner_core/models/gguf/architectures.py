"""The supported GGUF architectures, each declared by its name, metadata and tensors.

Written after llama.cpp's loaders (``src/models/*.cpp``) and converter (``conversion/*.py``), which are the format's
only specification. Architectures differ in details that a file does not contain, so undeclared architectures, keys and
tensors are rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qpruner_core.errors import UnsupportedArchitectureError
from qpruner_core.models.families import family_names
from qpruner_core.models.gguf import values
from qpruner_core.models.gguf.keys import AS_SAFETENSORS, ArchitectureKeys
from qpruner_core.models.gguf.layouts import (
    Layout,
    as_stored,
    falcon_groups,
    key_halves,
    minus_one,
    neox_heads,
    paired_stack,
    query_halves,
    transposed,
)
from qpruner_core.models.gguf.split import GgufModel


@dataclass(frozen=True)
class Architecture:
    """One GGUF architecture: ``model_type`` of transformers, and how it is read.

    ``values``: the config's values from the metadata. ``outer``: module of the model -> name in the file; ``inner``:
    module of a decoder layer (below ``layers``) -> name within ``blk.N``, where several names are stacked along the
    outputs. ``layouts``: inverse layouts of modules whose tensors are not stored as in transformers. ``experts``: name
    of the stacked weights of all experts in the file -> linear module of each expert.
    """

    model_type: str
    values: Callable[[ArchitectureKeys, GgufModel], dict[str, Any]]
    inner: Mapping[str, tuple[str, ...]]
    outer: Mapping[str, str]
    layers: str = "model.layers"
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    experts: Mapping[str, str] = field(default_factory=dict)

    def stored_names(self, parameter: str) -> tuple[str, ...]:
        """Names in the file of the tensors that form the model's ``parameter``; none if it has none."""
        module, suffix = _module_and_suffix(parameter)
        if module in self.outer:
            return (self.outer[module] + suffix,)
        index, path = self.layer_and_path(module)
        return tuple(f"blk.{index}.{name}{suffix}" for name in self.inner.get(path, ()))

    def layout(self, parameter: str) -> Layout:
        """Inverse layout of ``parameter``; biases and matrices of a module share it, up to transposition."""
        module, suffix = _module_and_suffix(parameter)
        layout = self.layouts.get(self.layer_and_path(module)[1], self.layouts.get(module, as_stored))
        return as_stored if layout is transposed and suffix == ".bias" else layout

    def layer_and_path(self, module: str) -> tuple[str, str]:
        """The index of the decoder layer of ``module`` (or a parameter), and its path in it; meaningless for others."""
        index, _, path = module.removeprefix(f"{self.layers}.").partition(".")
        return index, path


def find_architecture(name: str) -> Architecture:
    """The declaration of the GGUF architecture ``name``.

    Raises:
        UnsupportedArchitectureError: it is not declared.
    """
    if name not in ARCHITECTURES:
        supported = name in family_names()
        raise UnsupportedArchitectureError(
            f'The architecture "{name}" is '
            + ("supported, but not as a GGUF file." if supported else "not supported as a GGUF file."),
            field="model",
            remedy=AS_SAFETENSORS if supported else f"Supported GGUF architectures: {', '.join(ARCHITECTURES)}.",
        )
    return ARCHITECTURES[name]


def _module_and_suffix(parameter: str) -> tuple[str, str]:
    for suffix in (".weight", ".bias"):
        if parameter.endswith(suffix):
            return parameter.removesuffix(suffix), suffix
    return parameter, ".weight"  # stacked experts are parameters without that name


_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_ATTENTION: dict[str, tuple[str, ...]] = {
    "self_attn.q_proj": ("attn_q",), "self_attn.k_proj": ("attn_k",), "self_attn.v_proj": ("attn_v",),
    "self_attn.o_proj": ("attn_output",),
}  # fmt: skip
_QUERY_KEY_NORMS: dict[str, tuple[str, ...]] = {
    "self_attn.q_norm": ("attn_q_norm",), "self_attn.k_norm": ("attn_k_norm",),
}  # fmt: skip
_MLP: dict[str, tuple[str, ...]] = {
    "mlp.gate_proj": ("ffn_gate",), "mlp.up_proj": ("ffn_up",), "mlp.down_proj": ("ffn_down",),
}  # fmt: skip
_NORMS: dict[str, tuple[str, ...]] = {"input_layernorm": ("attn_norm",), "post_attention_layernorm": ("ffn_norm",)}
_POST_NORMS: dict[str, tuple[str, ...]] = {
    "post_attention_layernorm": ("post_attention_norm",), "post_feedforward_layernorm": ("post_ffw_norm",),
}  # fmt: skip
_GEMMA_NORMS = _POST_NORMS | {"input_layernorm": ("attn_norm",), "pre_feedforward_layernorm": ("ffn_norm",)}
_EXPERTS: dict[str, tuple[str, ...]] = {
    "mlp.gate": ("ffn_gate_inp",), "mlp.experts.gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"),
    "mlp.experts.down_proj": ("ffn_down_exps",),
}  # fmt: skip

_LLAMA = _ATTENTION | _MLP | _NORMS
_ROTARY_PAIRS: dict[str, Layout] = {"self_attn.q_proj": query_halves, "self_attn.k_proj": key_halves}
_PLUS_ONE: dict[str, Layout] = dict.fromkeys((*_GEMMA_NORMS, *_QUERY_KEY_NORMS, "model.norm"), minus_one)

ARCHITECTURES: dict[str, Architecture] = {
    "falcon": Architecture(
        "falcon", values.falcon, layers="transformer.h",
        outer={"transformer.word_embeddings": "token_embd", "transformer.ln_f": "output_norm", "lm_head": "output"},
        inner={
            "self_attention.query_key_value": ("attn_qkv",), "self_attention.dense": ("attn_output",),
            "mlp.dense_h_to_4h": ("ffn_up",), "mlp.dense_4h_to_h": ("ffn_down",), "input_layernorm": ("attn_norm",),
            "ln_mlp": ("attn_norm",), "ln_attn": ("attn_norm_2",),
        },
        layouts={"self_attention.query_key_value": falcon_groups},
    ),
    "gemma2": Architecture("gemma2", values.gemma2, _ATTENTION | _MLP | _GEMMA_NORMS, _OUTER, layouts=_PLUS_ONE),
    "gemma3": Architecture(
        "gemma3_text", values.gemma3, _ATTENTION | _MLP | _GEMMA_NORMS | _QUERY_KEY_NORMS, _OUTER, layouts=_PLUS_ONE
    ),
    "gpt2": Architecture(
        "gpt2", values.gpt2, layers="transformer.h",
        outer={
            "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
            "lm_head": "output",
        },
        inner={
            "attn.c_attn": ("attn_qkv",), "attn.c_proj": ("attn_output",), "mlp.c_fc": ("ffn_up",),
            "mlp.c_proj": ("ffn_down",), "ln_1": ("attn_norm",), "ln_2": ("ffn_norm",),
        },
        layouts=dict.fromkeys(("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"), transposed),
    ),
    "gptneox": Architecture(
        "gpt_neox", values.gpt_neox, layers="gpt_neox.layers",
        outer={
            "gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm", "lm_head": "output",
            "embed_out": "output",  # before transformers 5.20
        },
        inner={
            "attention.query_key_value": ("attn_qkv",), "attention.dense": ("attn_output",),
            "mlp.dense_h_to_4h": ("ffn_up",), "mlp.dense_4h_to_h": ("ffn_down",), "input_layernorm": ("attn_norm",),
            "post_attention_layernorm": ("ffn_norm",),
        },
        layouts={"attention.query_key_value": neox_heads},
    ),
    "granite": Architecture("granite", values.granite, _LLAMA, _OUTER, layouts=_ROTARY_PAIRS),
    "llama": Architecture("llama", values.llama, _LLAMA, _OUTER, layouts=_ROTARY_PAIRS),
    "olmo2": Architecture("olmo2", values.olmo2, _ATTENTION | _MLP | _POST_NORMS | _QUERY_KEY_NORMS, _OUTER),
    "phi3": Architecture(
        "phi3", values.phi3,
        {
            "self_attn.qkv_proj": ("attn_qkv",), "self_attn.o_proj": ("attn_output",), "mlp.gate_up_proj": ("ffn_up",),
            "mlp.down_proj": ("ffn_down",), **_NORMS,
        },
        _OUTER,
    ),
    "qwen2": Architecture("qwen2", values.qwen2, _LLAMA, _OUTER),
    "qwen3": Architecture("qwen3", values.qwen3, _LLAMA | _QUERY_KEY_NORMS, _OUTER),
    "qwen3moe": Architecture(
        "qwen3_moe", values.qwen3_moe, _ATTENTION | _EXPERTS | _NORMS | _QUERY_KEY_NORMS, _OUTER,
        experts={"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"},
    ),
    "smollm3": Architecture("smollm3", values.smollm3, _LLAMA, _OUTER, layouts=_ROTARY_PAIRS),
}  # fmt: skip

DECI: dict[str, Architecture] = {
    "llama": ARCHITECTURES["llama"],
    "qwen2": replace(ARCHITECTURES["qwen2"], layouts=_ROTARY_PAIRS),
    "phi3": replace(
        ARCHITECTURES["phi3"],
        inner={
            **ARCHITECTURES["phi3"].inner,
            "self_attn.qkv_proj": ("attn_q", "attn_k", "attn_v"),
            "mlp.gate_up_proj": ("ffn_gate", "ffn_up"),
        },
        layouts={"self_attn.qkv_proj": paired_stack},
    ),
}
"""How ``deci``, llama.cpp's Llama with different layers, stores the models of each architecture that it computes."""
