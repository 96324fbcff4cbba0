"""Whether a checkpoint's tensors are those of its architecture, found out by loading them without their contents.

transformers itself renames and joins what hubs hold under other names (GPT-2 without "transformer.", one tensor an
expert), so its own loading decides, on tensors of the meta device, which have shapes but no memory.
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

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.checkpoint import TensorShapes
from qpruner_core.models.families import Family, find_family
from qpruner_core.models.reshape import PATCHING

_CONSTANTS = ("inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")
"""Endings of the names of constants that old checkpoints carry and nobody reads."""


def require_fit(config: PretrainedConfig, tensors: TensorShapes) -> None:
    """Refuse weights that lack a tensor of the architecture, have one of another shape, or of a layer too many.

    Raises:
        CorruptModelError: they do not fit, or no model can be built from ``config``.
    """
    family = find_family(config.model_type)
    try:
        empty = {name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, (shape, _) in tensors.items()}
        with PATCHING, _silence():
            _, info = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
                None, config=config, state_dict=empty, dtype=torch.bfloat16, device_map={"": "meta"},
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except Exception as error:
        if "automatic conversion" in str(error):
            raise _unfit(
                "tensors that belong together, such as those of its experts, differ in number or shape"
            ) from error
        raise _unfit(f"no model can be built from it ({type(error).__name__}: {error})") from error
    for name in sorted(name for name in info["unexpected_keys"] if is_layer_tensor(name, family)):
        raise _unfit(f"it has no place for {name!r}")
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise _unfit(f"{name!r} has the shape {tuple(found)}, where its config asks for {tuple(wanted)}")
    for name in sorted(info["missing_keys"]):
        raise _unfit(f"{name!r} is missing")


def is_layer_tensor(name: str, family: Family) -> bool:
    """Whether a tensor is a weight of a decoder layer, which a model must not leave unused."""
    layers = re.escape(family.layers.rpartition(".")[2])
    return re.search(rf"(^|\.){layers}\.\d+\.", name) is not None and not name.endswith(_CONSTANTS)


def _unfit(what: str) -> CorruptModelError:
    return CorruptModelError(
        f"The model's weights do not fit its config.json: {what}.",
        field="model",
        remedy="Fetch or export the model again.",
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Without transformers' table of what does not fit, and its progress bar."""
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
