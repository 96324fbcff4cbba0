"""A model whose modules have different precisions: written to and loaded from a directory.

The directory has ``config.json`` (with the precision of each module under ``quantization_config``) and
safetensors files with the tensors under bitsandbytes' own names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, AliasChoices, BeforeValidator, ConfigDict, Field
from safetensors.torch import save_file
from torch import nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from qpruner_core.errors import CorruptModelError
from qpruner_core.mixed.groups import embedding_names, is_of_expert, linear_names
from qpruner_core.models.checkpoint import (
    INDEX_FILE,
    OWN_INDEX_FILE,
    OWN_WEIGHT_FILE,
    WEIGHT_FILE,
    read_checkpoint,
)
from qpruner_core.models.experts import separate_experts
from qpruner_core.models.families import Family, linear_shape, linear_weight
from qpruner_core.models.json_files import one_line, read_json_object, require_short_lists
from qpruner_core.models.model_config import (
    LARGEST_CONFIG,
    check_layers,
    refuse_too_many_layers,
    stored_config,
)
from qpruner_core.models.reshape import copy_modeling_file, empty_model, without_strange_code
from qpruner_core.models.shards import StoredTensors, names_by_module
from qpruner_core.models.stored_parameters import damaged, set_parameter
from qpruner_core.models.tensor_checks import require_bounded
from qpruner_core.precision_names import BITS_PER_WEIGHT, precision_name, size_order
from qpruner_core.precisions import Precision, PrecisionChoice, Tensors, precisions
from qpruner_core.precisions.bf16 import Bf16
from qpruner_core.precisions.int8_embedding import Int8Embedding
from qpruner_core.quantize.config import Int8Kind
from qpruner_core.strict import StrictModel

CONFIG = "config.json"
_WEIGHTS = (OWN_WEIGHT_FILE, OWN_INDEX_FILE, WEIGHT_FILE, INDEX_FILE)
GENERATION_CONFIG = "generation_config.json"
_LOG = logging.getLogger(__name__)


def _known(name: str) -> str:
    if name not in BITS_PER_WEIGHT:
        raise ValueError(f"{name!r} is not a precision of this release")
    return name


KnownPrecision = Annotated[str, AfterValidator(_known)]


def _named(values: Any) -> Any:
    """Releases up to 0.1 wrote bits instead of names."""
    return {name: precision_name(value) for name, value in values.items()} if isinstance(values, dict) else values


class MixedPrecision(StrictModel):
    """``quantization_config`` of a mixed checkpoint.

    ``precisions``: of every linear module of the layers, by full name, and of quantized embeddings and head; a tied
    head is as the embeddings. ``int8``: kind of that precision; LLM.int8() for checkpoints from before there was a
    choice. ``adapters``: whether the model needs the adapters beside it.
    """

    model_config = ConfigDict(populate_by_name=True)

    quant_method: str = "qpruner"
    precisions: Annotated[dict[str, KnownPrecision], BeforeValidator(_named)] = Field(
        validation_alias=AliasChoices("precisions", "bits")
    )
    double_quant: bool
    int8: Int8Kind = "llm_int8"
    adapters: bool = True

    @classmethod
    def of(cls, precisions: Mapping[str, str], choice: PrecisionChoice, *, adapters: bool = True) -> MixedPrecision:
        """Modules of these ``precisions`` in the run with the settings ``choice``."""
        values = {"precisions": precisions, "double_quant": choice.double_quant, "int8": choice.int8}
        return cls.model_validate({**values, "adapters": adapters})

    def of_layers(self, family: Family) -> list[list[str]]:
        """The different precisions in each layer, by ascending size."""
        layers: dict[int, set[str]] = {}
        for name, precision in self.precisions.items():
            if name.startswith(f"{family.layers}."):
                index = int(name.removeprefix(f"{family.layers}.").partition(".")[0])
                layers.setdefault(index, set()).add(precision)
        return [sorted(layers[index], key=size_order) for index in sorted(layers)]


def write_mixed_model(
    directory: Path, config: PretrainedConfig, precision: MixedPrecision, tensors: Tensors, family: Family
) -> None:
    """Write a mixed checkpoint. ``tensors``: every tensor under its full name; see :mod:`qpruner_core.precisions`."""
    directory.mkdir(parents=True, exist_ok=True)
    without_strange_code(config, family)
    values = json.loads(config.to_json_string())
    values["quantization_config"] = precision.model_dump(mode="json")
    (directory / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    copy_modeling_file(config, family, directory)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHT_FILE, {"format": "pt"}
    )


def read_mixed_config(directory: Path) -> tuple[PretrainedConfig, MixedPrecision, Family]:
    """The model's config and the precision of each layer.

    Raises:
        CorruptModelError: the directory is not a mixed checkpoint.
    """
    try:
        values = read_json_object(directory / CONFIG, most_bytes=LARGEST_CONFIG)
        require_short_lists(values, CONFIG)
        refuse_too_many_layers(values, directory / CONFIG)
        precision = MixedPrecision.model_validate(values.pop("quantization_config"))
        config, family = stored_config(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptModelError(
            f"{directory} is not a mixed-precision checkpoint.",
            field="model",
            remedy='Name the directory that has config.json with a "qpruner" quantization_config.',
        ) from error
    check_layers(config, directory / CONFIG)
    return config, precision, family


def load_mixed_model(
    directory: Path, *, device: str | torch.device = "cpu", dequantize: bool = False
) -> PreTrainedModel:
    """Load a mixed checkpoint onto ``device``, in eval mode.

    With ``dequantize`` every linear module is a plain bfloat16 one (for GPT-2 a ``Conv1D``) with the exact effective
    weights of the quantized module, and rounds inputs in the same way: more memory, and on a CPU much less time.

    Raises:
        CorruptModelError: the files are damaged or do not match each other.
    """
    config, precision, family = read_mixed_config(directory)
    if not any((directory / name).is_file() for name in _WEIGHTS):
        raise damaged(directory, f"it has no {OWN_WEIGHT_FILE}")
    require_bounded(config, read_checkpoint(directory).weight_bytes)
    model = empty_model(config)
    if any(is_of_expert(name, family) for name in precision.precisions):  # before 0.3 they were in 16 bits and stacked
        separate_experts(model)
    _require_precisions(model, family, precision, directory)
    kinds = precisions(precision)
    with StoredTensors(directory, device=device) as stored:
        of_module = names_by_module(stored.names(), precision.precisions)
        for name, kind in precision.precisions.items():
            tensors = {key.removeprefix(name + "."): stored.get(key) for key in of_module.get(name, ())}
            where = f"{directory}: {name}"
            for place in _places(model, name):
                module = _build(kinds[kind], tensors, model.get_submodule(place), dequantize, where)
                if _shape(module) != _shape(model.get_submodule(place)):
                    raise damaged(directory, f"{name} does not have the shape of config.json")
                model.set_submodule(place, module)
        for key in stored.names().difference(*of_module.values()):
            set_parameter(model, key, stored.get(key), directory)
    _tie(model)
    if (directory / GENERATION_CONFIG).is_file():
        model.generation_config = _generation_config(directory)
    missing = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if missing:
        raise damaged(directory, f"{missing[0]} is missing")
    model.is_loaded_in_4bit = not dequantize and "nf4" in precision.precisions.values()
    model.is_loaded_in_8bit = not dequantize and "int8" in precision.precisions.values()
    return model.to(device).eval()


def _generation_config(directory: Path) -> GenerationConfig:
    """The generation config of the model's authors; empty if transformers rejects it.

    The file is copied unchanged and no measurement uses it, so an invalid one must not end a run.
    """
    values = read_json_object(directory / GENERATION_CONFIG, keys_may_repeat=True)
    try:
        settings: GenerationConfig = GenerationConfig.from_dict(values)
    except Exception as error:  # noqa: BLE001  transformers has no type of error for it
        _LOG.warning("%s of %s is not followed (%s)", GENERATION_CONFIG, directory, one_line(error))
        return GenerationConfig()
    return settings


def _require_precisions(model: PreTrainedModel, family: Family, precision: MixedPrecision, directory: Path) -> None:
    """Raise unless every linear module of the layers has a precision, and no other module does."""
    layers = range(len(family.decoder_layers(model)))
    linears = {name for layer in layers for name in linear_names(model, family, layer)}
    others = set(precision.precisions) - linears
    if lacking := sorted(linears - set(precision.precisions)):
        raise damaged(directory, f"config.json has no precision for {lacking[0]}")
    if strange := sorted(others - set(embedding_names(model).values())):
        raise damaged(directory, f"config.json has a precision for {strange[0]}, which cannot be quantized")
    if any(precision.precisions[name] == "nf4" for name in others):
        raise damaged(directory, "config.json has the embeddings in NF4, which is not supported")


def _places(model: PreTrainedModel, name: str) -> list[str]:
    """Places that use the tensors of ``name``: its own, and for embeddings the head that is tied to them."""
    module, head = model.get_submodule(name), model.get_output_embeddings()
    if module is not model.get_input_embeddings() or head is None or head.weight is not module.weight:
        return [name]
    return [name, next(place for place, other in model.named_modules() if other is head)]


def _tie(model: PreTrainedModel) -> None:
    """Tie the head to the embeddings, unless quantized ones share their storage already: each needs its own parameter
    there, because bitsandbytes moves attached data elsewhere."""
    if isinstance(model.get_input_embeddings(), Int8Embedding):
        model.config.tie_word_embeddings = False
    model.tie_weights()


def _conv1d(linear: nn.Module) -> Conv1D:
    """GPT-2's own kind of linear module, so that derived models are stock GPT-2 again."""
    with torch.device("meta"):
        stock = Conv1D(*linear_shape(linear))
    stock.weight = nn.Parameter(linear_weight(linear).T.contiguous(), requires_grad=False)
    if isinstance(linear.bias, nn.Parameter):
        stock.bias = linear.bias
    stock._forward_pre_hooks.update(linear._forward_pre_hooks)
    return stock


def _build(kind: Precision, tensors: Tensors, wanted: nn.Module, dequantize: bool, where: str) -> nn.Module:
    """The module that replaces ``wanted`` and computes with ``tensors``."""
    weights = {name: tensor for name, tensor in tensors.items() if name != "bias"}
    try:
        if isinstance(wanted, nn.Embedding):
            return _embedding(kind, weights, wanted, dequantize)
        if not dequantize:
            return kind.build(weights, tensors.get("bias"))
        linear = Bf16().build({"weight": kind.decode(weights)}, tensors.get("bias"))
        linear.register_forward_pre_hook(lambda module, args: (kind.round_input(args[0]), *args[1:]))
    except (KeyError, AttributeError, AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptModelError(
            f"{where} cannot be read as {kind.name} ({type(error).__name__}: {error}).",
            field="model",
            remedy="Download the checkpoint again.",
        ) from error
    return _conv1d(linear) if isinstance(wanted, Conv1D) else linear


def _embedding(kind: Precision, tensors: Tensors, wanted: nn.Embedding, dequantize: bool) -> nn.Embedding:
    if kind.name == "int8" and not dequantize:
        return Int8Embedding(tensors, wanted)
    wanted = copy(wanted)
    wanted._parameters = {"weight": nn.Parameter(kind.decode(tensors), requires_grad=False)}
    return wanted


def _shape(module: nn.Module) -> tuple[int, ...]:
    return tuple(module.weight.shape) if isinstance(module, nn.Embedding) else linear_shape(module)


def encode(model: PreTrainedModel, precision: MixedPrecision) -> Tensors:
    """Tensors of ``model`` with its modules quantized as ``precision`` says, everything else as it is; no adapters."""
    kinds = precisions(precision)
    tensors: Tensors = {}
    for name, kind in precision.precisions.items():
        encoded = kinds[kind].encode(linear_weight(model.get_submodule(name)))
        tensors |= {f"{name}.{key}": value for key, value in encoded.items()}
    return tensors | other_tensors(model, {f"{name}.weight" for name in precision.precisions})


def other_tensors(model: PreTrainedModel, but: set[str]) -> Tensors:
    """The parameters of ``model`` whose names are not in ``but``; tied ones once."""
    return {name: tensor.data for name, tensor in model.named_parameters() if name not in but}
