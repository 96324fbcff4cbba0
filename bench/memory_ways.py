"""The ways to prune a checkpoint whose memory is compared, each in the same four phases."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
import transformers.generation
import transformers.models.llama.modeling_llama
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from bench.memory import Task
from bench.resident_memory import MemoryMeter, PhasePeak
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import Family, family_of, find_family
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.compensation import COMPENSATIONS
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.gradients import CutSums, add_entries, cuts_by_parameter, units_of
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts import plan_shape
from qpruner_core.prune.surgery import prune_model

__all__ = ["run_way", "transformers"]


def run_way(task: Task) -> list[PhasePeak]:
    """Prune as ``task`` says, and tell the peaks of its phases: load, score, (ours: refit,) prune, write."""
    logging.disable_progress_bar()
    find_family("llama")  # imports what it needs before the meter starts
    meter = MemoryMeter()
    try:
        if task.way.startswith("ours"):
            _ours(task, meter)
        else:
            _plain(task, meter)
    finally:
        shutil.rmtree(task.output, ignore_errors=True)
    return meter.peaks


def _calibration(task: Task, model: PreTrainedModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, model.config.vocab_size, (task.sequences, task.length), generator=generator)


def _shape(task: Task, model: PreTrainedModel, family: Family) -> Shape:
    return list(plan_shape(LayerSizes.of(model.config, family), PruneConfig(), task.ratio))


def _ours(task: Task, meter: MemoryMeter) -> None:
    """What the prune stage does, with its default settings."""
    settings = PruneConfig()
    checkpoint = Path(task.checkpoint)
    with meter.phase("load"):
        model = load_model(checkpoint)
    family = family_of(model)
    with meter.phase("score"):
        importance = CRITERIA[settings.criterion](model, family, _calibration(task, model), lambda done, total: None)
    with meter.phase("refit"):
        shape = _shape(task, model, family)
        compensate = COMPENSATIONS[settings.compensation]
        weights = compensate(
            model, family, shape, importance, _calibration(task, model), lambda done, total: None, consume=True
        )
    with meter.phase("prune"):
        model = prune_model(model, family, shape, importance, replacements=weights, consume=True)
    with meter.phase("write"):
        write_model(model, family, Path(task.output), tokenizer_from=checkpoint)


def _plain(task: Task, meter: MemoryMeter) -> None:
    """Stock loading, one backward pass after another with all gradients kept, slices beside the dense model."""
    dtype = torch.float32 if task.way.endswith("float32") else torch.bfloat16
    with meter.phase("load"):
        model = AutoModelForCausalLM.from_pretrained(task.checkpoint, dtype=dtype)
    family = family_of(model)
    with meter.phase("score"):
        for sequence in _calibration(task, model):
            model(input_ids=sequence[None], labels=sequence[None], use_cache=False).loss.backward()
        importance = _importance(model, family)
    with meter.phase("prune"):
        model = prune_model(model, family, _shape(task, model, family), importance)
    with meter.phase("write"):
        model.save_pretrained(task.output)


@torch.no_grad()
def _importance(model: PreTrainedModel, family: Family) -> list[LayerImportance]:
    cuts = [family.cuts(layer) for layer in family.decoder_layers(model)]
    sums: list[CutSums] = [{} for _ in cuts]
    for layer, total in zip(cuts, sums, strict=True):
        for same in cuts_by_parameter(layer):
            gradient = same[0].tensor.grad
            assert gradient is not None
            add_entries(same, (same[0].tensor * gradient).abs(), total)
    return units_of(model, family, cuts, sums)
