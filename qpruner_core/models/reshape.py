"""Configs and empty models of given widths, and the files that make a non-uniform checkpoint load."""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from qpruner_core.models.experts import separate_experts
from qpruner_core.models.families import DECI, Family, LayerWidths, modeling_file

# accelerate and transformers patch torch for the whole process while they build a model without its memory; two
# threads that do so at once would leave the patches in place for good.
PATCHING = threading.Lock()

Shape = list[LayerWidths | None]
"""Widths of every layer of a model, first to last; ``None`` for a removed layer."""


def config_with_shape(
    config: PretrainedConfig, family: Family, shape: Sequence[LayerWidths | None], *, output_bias: bool = False
) -> PretrainedConfig:
    """A copy of ``config`` (dense or pruned) with ``shape``: a stock config if it can express the shape, else ours.

    A stock config has one width for all layers; if its code derives the size of a head from their number (not
    ``Family.explicit_head_dim``), it has all heads. ``output_bias``: attention and MLP end in an additional bias.
    """
    kept = [index for index, widths in enumerate(shape) if widths is not None]
    widths = [layer for layer in shape if layer is not None]
    values = _without_layers(config, family, kept)
    stock = None if output_bias else _stock_config(config, family, values, widths)
    if stock is not None:
        return stock
    values["per_layer_config"] = {index: family.config_values(layer) for index, layer in enumerate(widths)}
    values["auto_map"] = own_auto_map(family)
    values["architectures"] = [family.model_class]
    if output_bias:
        values["output_bias"] = True
    return AutoConfig.for_model(family.pruned_model_type, **values)


def common_widths(widths: Sequence[LayerWidths]) -> LayerWidths | None:
    """The widths that all layers with units of a kind share; ``None`` if they differ."""
    common: dict[str, int] = {}
    for layer in widths:
        for name, count in layer.model_dump().items():
            if common.setdefault(name, count) in (0, count) or count == 0:
                common[name] = max(common[name], count)
            else:
                return None
    return LayerWidths(**common)


def _without_layers(config: PretrainedConfig, family: Family, kept: list[int]) -> dict[str, Any]:
    """The values of ``config`` for the layers ``kept``, without values for layers that differ."""
    values: dict[str, Any] = copy.deepcopy(config.to_dict())
    for name in ("model_type", "per_layer_config", "auto_map", "architectures"):
        values.pop(name, None)
    for name in family.layer_lists:
        if values.get(name) is not None:
            values[name] = [values[name][index] for index in kept]
    if family.kept_layers is not None:
        values |= family.kept_layers(config, kept)
    values["num_hidden_layers"] = len(kept)
    values["head_dim"] = family.head_dim(config)
    # Not serialised, but the new model must compute like the old one
    values["attn_implementation"] = config._attn_implementation
    values["experts_implementation"] = config._experts_implementation
    return values


def _stock_config(
    config: PretrainedConfig, family: Family, values: dict[str, Any], widths: list[LayerWidths]
) -> PretrainedConfig | None:
    """The stock config of a model whose layers have ``widths``; ``None`` if stock code would build another model.

    The config's own checks decide (some require a hidden size divisible by the heads), and its resulting values.
    """
    common = common_widths(widths)
    if common is None or getattr(config, "output_bias", False):
        return None
    if not family.explicit_head_dim:
        values = {name: value for name, value in values.items() if name != "head_dim"}
    try:
        stock = AutoConfig.for_model(family.model_type, **{**values, **family.config_values(common)})
    except (ValueError, StrictDataclassError):
        return None
    same = family.head_dim(stock) == family.head_dim(config)
    return stock if same and family.widths(stock) == widths else None


def empty_model(config: PretrainedConfig, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """A model of ``config`` with parameters on the meta device: shapes without memory; buffers are real."""
    with PATCHING:  # includes tying: within another thread's patches it would make a separate parameter
        with init_empty_weights(include_buffers=False), no_init_weights():  # which takes most of the time
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
        model.tie_weights()
    return model.eval()


def shapes_only(config: PretrainedConfig, *, experts_apart: bool = False) -> PreTrainedModel:
    """A bfloat16 model of ``config`` without any memory: its buffers are also on the meta device, without content.
    ``experts_apart``: with separate experts, all of a layer being one module.

    Equal configs share one, so do not change it. A plan asks for a dozen, and one of 80 layers takes half a second.
    """
    implementations = (config._attn_implementation, config._experts_implementation)  # not serialised
    described = f"{type(config).__name__} {implementations} {config.to_json_string(use_diff=False)}"
    return _shared(_Described(described, config), experts_apart)


def bytes_in_16_bits(config: PretrainedConfig) -> int:
    """Bytes of the parameters of a model of ``config`` in bfloat16, tied ones once."""
    parameters: int = sum(parameter.numel() for parameter in shapes_only(config).parameters())
    return parameters * torch.bfloat16.itemsize


@dataclass(frozen=True)
class _Described:
    """A config with what tells it from others; configs themselves cannot be hashed."""

    text: str
    config: PretrainedConfig = field(compare=False)


@lru_cache(maxsize=4)
def _shared(described: _Described, experts_apart: bool) -> PreTrainedModel:
    config = copy.deepcopy(described.config)  # some models change theirs
    with PATCHING:
        with torch.device("meta"), no_init_weights():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.tie_weights()
    return (separate_experts(model, alike=True) if experts_apart else model).eval()


def own_auto_map(family: Family) -> dict[str, str]:
    """The ``auto_map`` of a pruned model: the classes in the modeling file beside its ``config.json``.

    vLLM's transformers backend builds the model of ``AutoModel``, and adds the head.
    """
    stem = modeling_file(family).stem
    return {
        "AutoConfig": f"{stem}.{family.config_class}",
        "AutoModel": f"{stem}.{family.base_class}",
        "AutoModelForCausalLM": f"{stem}.{family.model_class}",
    }


def runs_as_deci(config: PretrainedConfig) -> bool:
    """Whether vLLM's :data:`DECI` is the model of ``config``."""
    return getattr(config, "block_configs", None) is not None


def own_architectures(config: PretrainedConfig, family: Family) -> list[str]:
    """``architectures`` of a pruned model: transformers and vLLM's transformers backend use the first; by default vLLM
    uses the first that it supports."""
    return [family.model_class, *([DECI] if runs_as_deci(config) else [])]


def without_strange_code(config: PretrainedConfig, family: Family) -> None:
    """Set ``auto_map`` of ``config`` to our own modeling file or remove it: one that was read with the config may name
    code of its author."""
    if config.model_type == family.pruned_model_type:
        config.auto_map = own_auto_map(family)
    elif hasattr(config, "auto_map"):
        del config.auto_map


def copy_modeling_file(config: PretrainedConfig, family: Family, directory: Path) -> None:
    """Put the family's modeling file beside ``config.json`` if ``config`` needs it."""
    if config.model_type == family.pruned_model_type:
        shutil.copyfile(modeling_file(family), directory / modeling_file(family).name)
