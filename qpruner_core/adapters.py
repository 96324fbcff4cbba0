"""LoRA adapters on disk, in PEFT's format, and on a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from peft import LoraConfig, PeftModel, PeftModelForCausalLM
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.errors import CorruptModelError
from qpruner_core.models.checkpoint import read_header, tensor_bytes
from qpruner_core.models.families import find_family
from qpruner_core.models.json_files import one_line, read_json_object, require_regular
from qpruner_core.models.model_config import LARGEST_CONFIG
from qpruner_core.precisions import Tensors
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.strict import StrictModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A = ".lora_A.weight"
_PROOF_TOKENS = 16
_WITHOUT_EFFECT = ("peft_version", "base_model_name_or_path", "revision", "inference_mode", "lora_dropout")


class Factors(NamedTuple):
    """A LoRA adapter, which adds ``alpha / rank · b @ a`` to a weight, with ``a [rank, in]`` and ``b [out, rank]``."""

    a: torch.Tensor
    b: torch.Tensor
    alpha: float


class _AdapterSettings(StrictModel):
    """PEFT settings that :func:`write_adapter` sets."""

    r: int = Field(ge=1)
    lora_alpha: float
    rank_pattern: dict[str, Annotated[int, Field(ge=1)]]
    alpha_pattern: dict[str, float]
    target_modules: list[str]


def adapter_name(linear: str, factor: str) -> str:
    """PEFT's name of the tensor of ``factor`` ("A" or "B") on the module ``linear``."""
    return f"{_PREFIX}{linear}.lora_{factor}.weight"


def write_adapter(directory: Path, tensors: Tensors, settings: QuantizeConfig, targets: list[str]) -> None:
    """Write adapter tensors, under PEFT's names, as a directory that ``PeftModel.from_pretrained`` loads.

    Ranks are read from the tensors. Where a rank differs from ``settings.lora_rank``, alpha keeps the scaling the same.
    """
    directory.mkdir(parents=True, exist_ok=True)
    ranks = _other_ranks(tensors, settings.lora_rank)
    scaling = settings.lora_alpha / settings.lora_rank
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        rank_pattern=ranks,
        alpha_pattern={linear: scaling * rank for linear, rank in ranks.items()},
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    # PEFT keeps sets, whose order differs between processes
    values = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    (directory / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True, default=str) + "\n")
    save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, directory / WEIGHTS)


def _other_ranks(tensors: Tensors, usual: int) -> dict[str, int]:
    """Module name -> rank, for adapters whose rank differs from the usual one."""
    suffix = adapter_name("", "A").removeprefix(_PREFIX)
    ranks = {
        name.removeprefix(_PREFIX).removesuffix(suffix): tensor.shape[0]
        for name, tensor in tensors.items()
        if name.endswith(suffix)
    }
    return {linear: ranks[linear] for linear in sorted(ranks) if ranks[linear] != usual}


def attach_adapter(
    model: PreTrainedModel,
    directory: Path,
    *,
    trainable: bool = False,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.bfloat16,
) -> PeftModel:
    """Attach the adapter of ``directory`` to ``model``, with factors in ``dtype``. ``dropout`` applies to training
    only."""
    _require_adapter_files(directory)
    config = _read_config(directory)
    config.lora_dropout = dropout
    config.inference_mode = not trainable
    with names_as_they_are(model):
        peft_model: PeftModel = PeftModel.from_pretrained(
            model, str(directory.resolve()), config=config, is_trainable=trainable, torch_device=str(model.device)
        )
    with safe_open(directory / WEIGHTS, framework="pt") as file:
        stored = set(file.keys())
    if stored != set(adapter_tensors(peft_model, dtype)):  # PEFT leaves missing tensors at zero and barely warns
        raise _corrupt(directory, "its tensors are not those of the model's linear modules")
    for name, parameter in peft_model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return peft_model.train() if trainable else peft_model.eval()


@torch.no_grad()
def require_acting_adapter(model: PeftModel) -> None:
    """Check that the adapter on ``model`` affects its predictions, unless every ``B`` is zero.

    A few steps at a small learning rate from ``B = 0`` may vanish in the rounding of the logits, which is harmless. If
    no effect is visible, the check is repeated with an enlarged ``B``.

    Raises:
        CorruptModelError: without the adapter the logits are the same, however large it is.
    """
    factors = [tensor for name, tensor in model.named_parameters() if ".lora_B." in name and bool(tensor.any())]
    if not factors:
        return
    ids = torch.arange(_PROOF_TOKENS, device=model.device).unsqueeze(0) % model.config.vocab_size
    logits = model(input_ids=ids, use_cache=False).logits
    with model.disable_adapter():
        without = model(input_ids=ids, use_cache=False).logits
    if torch.equal(logits, without):
        with _large(factors):
            logits = model(input_ids=ids, use_cache=False).logits
    if torch.equal(logits, without):
        raise CorruptModelError(
            "The adapter has no effect: the model predicts the same with and without it.",
            field="finetune",
            remedy="Report this with the recipe.",
        )


@contextmanager
def _large(factors: list[nn.Parameter]) -> Iterator[None]:
    """Temporarily scale each of ``factors`` so that its largest entry is 1."""
    kept = [factor.data for factor in factors]
    for factor in factors:
        factor.data = factor.data / factor.data.abs().max()
    try:
        yield
    finally:
        for factor, data in zip(factors, kept, strict=True):
            factor.data = data


@contextmanager
def names_as_they_are(model: PreTrainedModel) -> Iterator[None]:
    """Stop PEFT from rewriting the targets of stock mixture-of-experts models.

    PEFT goes by ``model_type`` and takes the names of dense MLPs for those of experts in older checkpoints; it would
    put their adapters on the experts.
    """
    config = model.config
    config.model_type = find_family(config.model_type).pruned_model_type
    try:
        yield
    finally:
        del config.model_type  # the class repeats it


def _read_config(directory: Path) -> LoraConfig:
    """Read the settings of :func:`write_adapter` in ``directory``. Other settings change PEFT's behaviour or name code
    to import, and are rejected."""
    values = read_json_object(directory / CONFIG, most_bytes=LARGEST_CONFIG)
    largest = max((size for shape, _ in read_header(directory / WEIGHTS).values() for size in shape), default=0)
    try:
        own = _AdapterSettings.model_validate({name: values.get(name) for name in _AdapterSettings.model_fields})
        config = LoraConfig(**own.model_dump(), bias="none", task_type="CAUSAL_LM")
    except (ValueError, TypeError) as error:
        raise _corrupt(directory, f"{CONFIG} is not an adapter configuration ({one_line(error)})") from error
    if max(own.r, *own.rank_pattern.values(), 0) > largest:
        raise _corrupt(directory, f"{CONFIG} has ranks larger than its tensors")
    usual = config.to_dict()
    others = {name: value for name, value in values.items() if name not in (*own.model_dump(), *_WITHOUT_EFFECT)}
    for name, value in others.items():
        if value not in (usual.get(name), None, False, {}):
            raise _corrupt(directory, f"{CONFIG} sets {name}, which no adapter of QPruner does")
    return config


def _require_adapter_files(directory: Path) -> None:
    # Without them PEFT would take the path for a hub id, or fall back to pickled weights
    for name in (CONFIG, WEIGHTS):
        require_regular(directory / name)
        if not (directory / name).is_file():
            raise _corrupt(directory, f"it has no {name}")


def _corrupt(directory: Path, what: str) -> CorruptModelError:
    return CorruptModelError(
        f"The adapter in {directory} cannot be used: {what}.", field="model", remedy="Download the checkpoint again."
    )


def largest_rank(directory: Path) -> int:
    """Largest rank of the adapter in ``directory``."""
    tensors = read_header(directory / WEIGHTS)
    return max(shape[0] for name, (shape, _) in tensors.items() if name.endswith(_A))


def adapter_bytes(directory: Path) -> int:
    """Bytes of the factors of the adapter in ``directory``."""
    return sum(tensor_bytes(*shape) for shape in read_header(directory / WEIGHTS).values())


def read_factors(directory: Path) -> tuple[float, dict[str, Factors]]:
    """Alpha of most modules, and the factors of every module by name, as written by :func:`write_adapter`."""
    _require_adapter_files(directory)
    config = _read_config(directory)
    usual = float(config.lora_alpha)
    found: dict[str, Factors] = {}
    with safe_open(directory / WEIGHTS, framework="pt") as file:
        for name in sorted(file.keys()):
            if name.endswith(_A):
                linear = name.removeprefix(_PREFIX).removesuffix(_A)
                a, b = (file.get_tensor(adapter_name(linear, factor)) for factor in "AB")
                found[linear] = Factors(a, b, float(config.alpha_pattern.get(linear, usual)))
    return usual, found


def attach_factors(model: PreTrainedModel, factors: Mapping[str, Factors]) -> PeftModel:
    """Attach adapters with these ``factors``, by name of every module that has one, to ``model``, in eval mode."""
    first = next(iter(factors.values()))
    config = LoraConfig(
        r=len(first.a),
        lora_alpha=first.alpha,
        rank_pattern={name: len(each.a) for name, each in factors.items()},
        alpha_pattern={name: each.alpha for name, each in factors.items()},
        target_modules=list(factors),
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    with names_as_they_are(model):
        peft_model = PeftModelForCausalLM(model, config, autocast_adapter_dtype=False)
    parameters = adapter_parameters(peft_model)
    for name, each in factors.items():
        for factor, value in (("A", each.a), ("B", each.b)):
            parameters[adapter_name(name, factor)].data = value.to(model.device)
    return peft_model.eval()


def adapter_tensors(model: PeftModel, dtype: torch.dtype) -> Tensors:
    """Adapter tensors under PEFT's on-disk names, on the CPU."""
    return {name: parameter.detach().to("cpu", dtype) for name, parameter in adapter_parameters(model).items()}


def adapter_parameters(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    """Adapter parameters by PEFT's on-disk names; see :func:`adapter_name`."""
    return {
        name.replace(".default.", "."): parameter for name, parameter in model.named_parameters() if ".lora_" in name
    }
