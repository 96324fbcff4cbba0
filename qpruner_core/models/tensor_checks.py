"""Check that a checkpoint's tensors are those of its architecture, by loading them without their contents.

transformers itself renames and joins tensors with other names (GPT-2 without "transformer.", one tensor per expert), so
its own loading decides, on tensors of the meta device, which have shapes but no memory.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from qpruner_core.errors import CorruptModelError, UnsupportedArchitectureError
from qpruner_core.models.checkpoint import TensorShapes, tensor_bytes
from qpruner_core.models.families import Family, find_family
from qpruner_core.models.json_files import one_line
from qpruner_core.models.reshape import PATCHING, shapes_only

_CONSTANTS = (
    "inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias", "position_ids",
    "decoder.version",
)  # fmt: skip
"""Endings of the names of constants in old checkpoints that nothing reads."""
_WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")
_MOST_PARAMETERS_PER_BYTE = 2  # with 4 bits each
_LARGEST_BUFFERS = 2**22
"""Most elements of a model's computed buffers, such as rotary tables; a few hundred in all families."""


def require_fit(config: PretrainedConfig, tensors: TensorShapes) -> bool:
    """Reject weights that lack a tensor of the architecture, or have an unknown one or one of another shape.

    Returns whether they hold a head although ``config`` ties it to the embeddings: their values then decide.

    Raises:
        CorruptModelError: they do not match, two of them are one parameter, or no model can be built from ``config``.
        UnsupportedArchitectureError: they belong to a model with another head, or are quantized.
    """
    family = find_family(config.model_type)
    _require_plain_weights(tensors)
    _require_one_name_each(tensors, MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].base_model_prefix)
    if config.num_hidden_layers > len(tensors):
        raise _unfit(f"it has {config.num_hidden_layers} layers, but the weights have {len(tensors)} tensors")
    require_bounded(config, sum(tensor_bytes(*tensor) for tensor in tensors.values()))
    try:
        empty = {name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, (shape, _) in tensors.items()}
        with PATCHING, _silence():
            model, info = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
                None, config=config, state_dict=empty, dtype=torch.bfloat16, device_map={"": "meta"},
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except Exception as error:
        if "automatic conversion" in str(error):
            raise _unfit(
                "tensors that belong together, such as those of its experts, differ in number or shape"
            ) from error
        raise _unfit(f"no model can be built from it ({one_line(error)})") from error
    surplus = sorted(name for name in info["unexpected_keys"] if not is_constant(name))
    for name in (name for name in surplus if is_layer_tensor(name, family)):
        raise _unfit(f"it does not describe {name!r}")
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise _unfit(f"{name!r} has the shape {tuple(found)}, but its config requires {tuple(wanted)}")
    _require_complete(sorted(info["missing_keys"]), config)
    if surplus:
        raise UnsupportedArchitectureError(
            f"The model's weights hold {surplus[0]!r}, "
            f"which a causal language model ({config.model_type}) does not have.",
            field="model",
            remedy="Choose the causal language model itself, or save it without other heads and parts.",
        )
    tied = bool(config.tie_word_embeddings)
    return tied and model.get_output_embeddings().weight is not model.get_input_embeddings().weight


def require_bounded(
    config: PretrainedConfig, weight_bytes: int, *, parameters_per_byte: int = _MOST_PARAMETERS_PER_BYTE
) -> None:
    """Reject a config of a far larger model than files of ``weight_bytes`` can hold.

    Takes no memory for weights or buffers, so that a wrong number in a config allocates nothing large.

    Raises:
        CorruptModelError: the model is too large, or cannot be built.
    """
    try:
        model = shapes_only(config)
    except Exception as error:
        raise _unfit(f"no model can be built from it ({one_line(error)})") from error
    parameters = sum(tensor.numel() for tensor in model.parameters())
    if parameters > parameters_per_byte * weight_bytes:
        raise _unfit(f"it has {parameters} parameters, but the weights have {weight_bytes} bytes")
    if sum(tensor.numel() for tensor in model.buffers()) > _LARGEST_BUFFERS:
        raise _unfit("the tables of its position embeddings are too large")


def _require_plain_weights(tensors: TensorShapes) -> None:
    for name, (_, dtype) in tensors.items():
        if dtype not in _WEIGHT_DTYPES and not is_constant(name):
            raise UnsupportedArchitectureError(
                f"The model's tensor {name!r} has the type {dtype}: it is quantized, or not a weight.",
                field="model",
                remedy="Give the original 16-bit model.",
            )


def _require_one_name_each(tensors: TensorShapes, prefix: str) -> None:
    """Reject weights with one parameter under two names, with the prefix of the base model and without it: transformers
    would take either."""
    names: dict[str, str] = {}
    for name in sorted(tensors):
        other = names.setdefault(name.removeprefix(f"{prefix}."), name)
        if other != name and not is_constant(name):
            raise _unfit(f"{other!r} and {name!r} are the same parameter")


def _require_complete(missing: list[str], config: PretrainedConfig) -> None:
    if not missing:
        return
    if missing == ["lm_head.weight"] and not config.tie_word_embeddings:
        raise CorruptModelError(
            "The model's weights have no head ('lm_head.weight' is missing), "
            "and its config.json does not tie the head to the embeddings (tie_word_embeddings is false).",
            field="model",
            remedy="If the model was trained with a tied head, set tie_word_embeddings to true in its config.json; "
            "otherwise export it again with its head.",
        )
    raise _unfit(f"{missing[0]!r} is missing")


def is_layer_tensor(name: str, family: Family) -> bool:
    """Whether a tensor is a weight of a decoder layer, which a model must use."""
    layers = re.escape(family.layers.rpartition(".")[2])
    return re.search(rf"(^|\.){layers}\.\d+\.", name) is not None and not is_constant(name)


def is_constant(name: str) -> bool:
    """Whether a tensor is a constant of old checkpoints that nothing reads."""
    return name.endswith(_CONSTANTS) and not name.endswith("c_attn.bias")


def _unfit(what: str) -> CorruptModelError:
    return CorruptModelError(
        f"The model's weights do not fit its config.json: {what}.",
        field="model",
        remedy="Fetch or export the model again.",
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Without transformers' table of mismatches and its progress bar."""
    logger = logging.getLogger("transformers.modeling_utils")
    level, bars = logger.level, transformers_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
