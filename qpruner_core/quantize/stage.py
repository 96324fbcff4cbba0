"""Stage 4: each layer at its precision, with adapters that make up for what quantization took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from qpruner_core.allocate.stage import ALLOCATION, AllocationResult
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import copy_tokenizer
from qpruner_core.precisions import Tensors, precisions
from qpruner_core.quantize.adapters import adapter_name, write_adapter
from qpruner_core.quantize.loftq import loftq
from qpruner_core.quantize.mixed_model import MixedPrecision, linear_names, other_tensors, write_mixed_model
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
    model = load_model(source)
    kinds = precisions(settings.double_quant)
    tensors: Tensors = {}
    adapter: Tensors = {}
    quantized = set()
    squared = {"before": 0.0, "after": 0.0}
    scaling = settings.lora_alpha / settings.lora_rank
    for layer, bit in enumerate(bits):
        for position, name in enumerate(linear_names(family, layer)):
            weight: torch.Tensor = model.get_submodule(name).weight.data
            encoded, a, b = loftq(
                weight,
                kinds[bit],
                rank=settings.lora_rank,
                scaling=scaling,
                iterations=settings.loftq_iterations,
                seed=context.config.seed + 1000 * layer + position,
            )
            tensors |= {f"{name}.{key}": value for key, value in encoded.items()}
            adapter[adapter_name(name, "A")], adapter[adapter_name(name, "B")] = a, b
            quantized.add(f"{name}.weight")
            plain = kinds[bit].decode(kinds[bit].encode(weight))
            squared["before"] += (weight - plain).float().square().sum().item()
            squared["after"] += (
                (weight.float() - kinds[bit].decode(encoded).float() - scaling * b @ a).square().sum().item()
            )
        context.progress((layer + 1) / len(bits), f"layer {layer + 1}: {bit} bits")
    tensors |= other_tensors(model, quantized)
    precision = MixedPrecision(bits=bits, double_quant=settings.double_quant)
    write_mixed_model(output / MODEL, model.config, precision, tensors, family)
    copy_tokenizer(source, output / MODEL)
    write_adapter(output / ADAPTER, adapter, settings, [path.rpartition(".")[2] for path in family.linears])
    return {"bits": list(bits), "weight_error": {name: value**0.5 for name, value in squared.items()}}
