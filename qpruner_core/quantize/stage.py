"""Stage 4: each layer at its precision, with adapters that make up for what quantization took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qpruner_core.allocate.stage import ALLOCATION, AllocationResult
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import copy_tokenizer
from qpruner_core.models.families import linear_weight
from qpruner_core.precisions import Tensors, precisions
from qpruner_core.quantize.adapters import adapter_name, write_adapter
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.quantize.loftq import loftq
from qpruner_core.quantize.mixed_model import MixedPrecision, linear_names, other_tensors, write_mixed_model
from qpruner_core.resources import best_device
from qpruner_core.stage import StageContext

MODEL = "model"
ADAPTER = "adapter"


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write ``output/model`` (mixed precision, no adapters) and ``output/adapter`` (LoftQ's)."""
    settings = context.config.quantize
    family = context.plan.family
    result = AllocationResult.model_validate_json((context.finished("allocate") / ALLOCATION).read_bytes())
    bits = result.best.bits
    source = context.finished("prune") / "model"
    model = load_model(source).to(best_device())
    tensors: Tensors = {}
    adapter: Tensors = {}
    before = after = 0.0
    for layer, bit in enumerate(bits):
        for position, name in enumerate(linear_names(model, family, layer)):
            seed = context.config.seed + 1000 * layer + position
            fitted = _fit(linear_weight(model.get_submodule(name)), bit, settings, seed)
            tensors |= {f"{name}.{key}": value for key, value in fitted.tensors.items()}
            adapter[adapter_name(name, "A")], adapter[adapter_name(name, "B")] = fitted.a, fitted.b
            before, after = before + fitted.squared_error_before, after + fitted.squared_error_after
        context.progress((layer + 1) / len(bits), f"layer {layer + 1}: {bit} bits")
    quantized = {f"{name}.weight" for layer in range(len(bits)) for name in linear_names(model, family, layer)}
    tensors |= other_tensors(model, quantized)
    precision = MixedPrecision(bits=bits, double_quant=settings.double_quant)
    write_mixed_model(output / MODEL, model.config, precision, tensors, family)
    copy_tokenizer(source, output / MODEL)
    write_adapter(output / ADAPTER, adapter, settings, [path.rpartition(".")[2] for path in family.linears])
    return {"bits": list(bits), "weight_error": {"before": before**0.5, "after": after**0.5}}


@dataclass(frozen=True)
class _Fitted:
    """A quantized weight with its adapter, and the squared error of the weight without and with it."""

    tensors: Tensors
    a: torch.Tensor
    b: torch.Tensor
    squared_error_before: float
    squared_error_after: float


def _fit(weight: torch.Tensor, bits: int, settings: QuantizeConfig, seed: int) -> _Fitted:
    kind = precisions(settings.double_quant)[bits]
    scaling = settings.lora_alpha / settings.lora_rank
    tensors, a, b = loftq(
        weight, kind, rank=settings.lora_rank, scaling=scaling, iterations=settings.loftq_iterations, seed=seed
    )
    plain = kind.decode(kind.encode(weight)).float()
    adapted = kind.decode(tensors).float() + (scaling * b @ a).to(weight.device)
    errors = [(weight.float() - other).square().sum().item() for other in (plain, adapted)]
    return _Fitted(tensors, a, b, *errors)
