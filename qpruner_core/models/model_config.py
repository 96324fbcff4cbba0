"""Read ``config.json`` without running code that came with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from qpruner_core.errors import CorruptModelError, UnsafeModelError, UnsupportedArchitectureError
from qpruner_core.models.causal_lm import refuse_other_models
from qpruner_core.models.checkpoint import WEIGHT_FILE, TensorShapes
from qpruner_core.models.config_numbers import unsupported_feature, wrong_number
from qpruner_core.models.families import Family, family_names, find_family
from qpruner_core.models.json_files import corrupt_file, one_line, read_json_object, require_short_lists
from qpruner_core.models.reshape import own_auto_map, shapes_only

CONFIG_FILE = "config.json"
LARGEST_CONFIG = 4 * 2**20
"""Most bytes of a config; those of the largest models have about ten thousand."""
_POSITIVE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
)  # fmt: skip
_POSITIVE_WHERE_GIVEN = (
    "head_dim", "num_experts", "num_experts_per_tok", "moe_intermediate_size", "max_position_embeddings",
    "sliding_window",
)  # fmt: skip
_IMPLEMENTATIONS = (
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "experts_implementation", "_experts_implementation", "_experts_implementation_internal",
)  # fmt: skip
"""Config keys that select the implementation: this machine decides on that, and a name may refer to code on a hub."""
_OUTPUTS = ("return_dict", "torchscript", "output_hidden_states", "output_attentions")
"""Config keys that select the form of outputs, on which callers of the model rely."""
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_MOST_LAYERS = 1024  # a broken config must not make the service build an endless model


def read_config(path: Path) -> PretrainedConfig:
    """The model's config, built by the stock class of its ``model_type``.

    Raises:
        UnsafeModelError: the model only loads with its own code.
        UnsupportedArchitectureError: no family declares its ``model_type``.
        CorruptModelError: not JSON, NaN or infinite values, or impossible sizes.
    """
    values = read_json_object(path, most_bytes=LARGEST_CONFIG)
    require_short_lists(values, path.name)
    model_type = values.get("model_type")
    _refuse_remote_code(values, path)
    if not isinstance(model_type, str):
        raise corrupt_file(path.name, "it names no model_type")
    refuse_other_models(values, model_type)
    _refuse_quantized(values, path)
    _refuse_other_weights(values, path)
    refuse_too_many_layers(values, path)
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedArchitectureError(
            f"The installed transformers does not know the architecture {model_type!r}.",
            field="model",
            remedy="Upgrade transformers, or choose a model of another architecture.",
        )
    try:
        config = CONFIG_MAPPING[model_type].from_dict(without_implementations(values))
    except Exception as error:
        raise corrupt_file(path.name, one_line(error)) from error
    check_layers(config, path)
    _refuse_unsupported(config)
    return config


def stored_config(values: dict[str, Any]) -> tuple[PretrainedConfig, Family]:
    """The config and family of one of our compressed checkpoints, from the model's part of ``config.json``.

    Raises:
        ValueError: transformers rejects the config.
        KeyError, TypeError: it names no type of model. UnsupportedArchitectureError.
    """
    family = find_family(values["model_type"])
    kind = family.pruned_model_type if "per_layer_config" in values else family.model_type
    rest = {name: value for name, value in values.items() if name != "model_type"}
    try:
        return AutoConfig.for_model(kind, **without_implementations(rest)), family
    except Exception as error:
        raise ValueError(one_line(error)) from error


def without_implementations(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` of a config without keys for implementation and form of outputs, and without an empty
    ``quantization_config``."""
    ignored = {*_IMPLEMENTATIONS, *_OUTPUTS}
    if not values.get("quantization_config"):
        ignored.add("quantization_config")
    return {name: value for name, value in values.items() if name not in ignored}


def refuse_too_many_layers(values: dict[str, Any], path: Path) -> None:
    """Raise :class:`CorruptModelError` before a config is built, which makes lists with one entry per layer."""
    for name in _LAYER_COUNTS:
        count = values.get(name)
        if isinstance(count, int | float) and count > _MOST_LAYERS:
            raise corrupt_file(path.name, f"{name} is {count}, which is impossible")


def _refuse_unsupported(config: PretrainedConfig) -> None:
    unsupported = find_family(config.model_type).unsupported
    what = unsupported_feature(config) or (None if unsupported is None else unsupported(config))
    if what is not None:
        raise UnsupportedArchitectureError(
            f'The architecture "{config.model_type}" is supported, but not with {what}.',
            field="model",
            remedy="Choose a model without it.",
        )


def check_layers(config: PretrainedConfig, path: Path) -> None:
    """:func:`check_sizes` for the model and each of its layers."""
    try:
        for one in (config, *config.per_layer_config):
            check_sizes(one, path)
    except CorruptModelError:
        raise
    except Exception as error:  # layers that differ, in a class without support for that
        raise corrupt_file(path.name, one_line(error)) from error


def check_sizes(config: PretrainedConfig, path: Path) -> None:
    """Raise :class:`CorruptModelError` for impossible sizes and other numbers."""
    for name in _POSITIVE:
        value = getattr(config, name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise corrupt_file(path.name, f"{name} is {value!r}, which is not a positive whole number")
    for name in _POSITIVE_WHERE_GIVEN:
        value = getattr(config, name, None)
        if value is not None and (type(value) is not int or value < 1):
            raise corrupt_file(path.name, f"{name} is {value!r}, which is not a positive whole number")
    if (getattr(config, "num_experts_per_tok", None) or 1) > (getattr(config, "num_experts", None) or 1):
        raise corrupt_file(path.name, "num_experts_per_tok is larger than num_experts")
    if config.num_hidden_layers > _MOST_LAYERS:
        raise corrupt_file(path.name, f"num_hidden_layers is {config.num_hidden_layers}, which is impossible")
    heads, groups = getattr(config, "num_attention_heads", 1), getattr(config, "num_key_value_heads", 1)
    if heads % groups:
        raise corrupt_file(path.name, f"{heads} attention heads cannot share {groups} key-value heads")
    wrong = wrong_number(config)
    if wrong is not None:
        raise corrupt_file(path.name, wrong)


def expected_tensors(config: PretrainedConfig) -> TensorShapes:
    """The tensors of a 16-bit model with ``config``, tied ones once; takes no memory for weights."""
    try:
        model = shapes_only(config)
    except Exception as error:
        raise corrupt_file(CONFIG_FILE, f"no model can be built from it ({one_line(error)})") from error
    return {name: (tuple(tensor.shape), "BF16") for name, tensor in model.named_parameters()}


def _refuse_quantized(values: dict[str, Any], path: Path) -> None:
    empty: tuple[object, ...] = (None, {})  # anything else is for transformers to read, which happens for tokenizers
    named = [values.get(name) for name in ("quantization_config", "compression_config")]
    quantization = next((one for one in named if one not in empty), None)
    if quantization is not None:
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
        raise UnsupportedArchitectureError(
            f"The model of {path.parent.name!r} is quantized already (method {method!r}).",
            field="model",
            remedy="Give the original 16-bit model.",
        )


def _refuse_other_weights(values: dict[str, Any], path: Path) -> None:
    """Reject a config that makes transformers read another file than the usual one, which would be read here."""
    named = values.get("transformers_weights")
    if named not in (None, WEIGHT_FILE):
        raise corrupt_file(path.name, f"it names a weight file of its own (transformers_weights is {named!r})")


def _refuse_remote_code(values: dict[str, Any], path: Path) -> None:
    """Reject a model with its own model class. An ``auto_map`` beside stock classes is ignored on loading, and pruned
    models of ours use the class of this package, never the file beside the weights."""
    auto_map = values.get("auto_map")
    if not isinstance(auto_map, dict) or not auto_map:
        return
    architectures = values.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    stock = values.get("model_type") in CONFIG_MAPPING_NAMES and (
        named is None or named in set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    )
    if not stock and not _is_ours(values.get("model_type"), named, auto_map):
        raise UnsafeModelError(
            f"The model of {str(path.parent.name)!r} only loads with its own Python code (auto_map in "
            f"{path.name}), which is never run here.",
            field="model",
            remedy="Choose a model whose architecture is part of transformers.",
        )


def _is_ours(model_type: object, model_class: object, auto_map: dict[str, Any]) -> bool:
    if not isinstance(model_type, str) or model_type.removeprefix("qpruner_") not in family_names():
        return False
    family = find_family(model_type)
    own = own_auto_map(family)
    without_base = {name: place for name, place in own.items() if name != "AutoModel"}  # as in older checkpoints
    ours = (family.pruned_model_type, family.model_class)
    return (model_type, model_class) == ours and auto_map in (own, without_base)
