"""Configs and empty models of given widths, and files that make a non-uniform checkpoint load."""

from __future__ import annotations

import copy
import shutil
import threading
from pathlib import Path

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

import qpruner_core.models.pruned as pruned
from qpruner_core.models.families import Family, LayerWidths

# accelerate and transformers patch torch for the whole process while they build a model without its memory; two
# threads that do so at once would leave the patches in place for good.
_PATCHING = threading.Lock()


def config_with_widths(config: PretrainedConfig, family: Family, widths: list[LayerWidths]) -> PretrainedConfig:
    """A copy of the dense ``config`` with ``widths``: a stock config if they are uniform, else ours.

    A stock config also demands a hidden size that the heads divide (Llama); otherwise ours is used.
    """
    values = copy.deepcopy(config.to_dict())
    values["head_dim"] = family.head_dim(config)
    values.pop("model_type")
    uniform = all(layer == widths[0] for layer in widths)
    if uniform and config.hidden_size % widths[0].num_attention_heads == 0:
        return AutoConfig.for_model(family.model_type, **{**values, **widths[0].model_dump()})
    values["per_layer_config"] = {index: layer.model_dump() for index, layer in enumerate(widths)}
    stem = f"modeling_{family.pruned_model_type}.{family.pruned_class_prefix}"
    values["auto_map"] = {"AutoConfig": f"{stem}Config", "AutoModelForCausalLM": f"{stem}ForCausalLM"}
    values["architectures"] = [f"{family.pruned_class_prefix}ForCausalLM"]
    return AutoConfig.for_model(family.pruned_model_type, **values)


def empty_model(config: PretrainedConfig, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """A model of ``config`` whose parameters are on the meta device: shapes without memory; buffers are real."""
    with _PATCHING, init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.tie_weights()
    return model.eval()


def copy_modeling_file(config: PretrainedConfig, family: Family, directory: Path) -> None:
    """Put the family's modeling file beside ``config.json`` if ``config`` needs it."""
    if config.model_type == family.pruned_model_type:
        name = f"modeling_{family.pruned_model_type}.py"
        shutil.copyfile(Path(pruned.__file__).parent / name, directory / name)
