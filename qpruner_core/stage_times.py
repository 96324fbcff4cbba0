"""Expected seconds of each stage, from the work that it does and the speed of the machine that is asked."""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from transformers import PretrainedConfig

from qpruner_core.config import CompressionConfig
from qpruner_core.events import StageName
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.models.families import Family
from qpruner_core.prune.blocks import Blocks
from qpruner_core.resources import best_device
from qpruner_core.score.config import ScoreConfig

EFFICIENCY = 0.5
"""Share of a plain matrix product's speed that a small transformer reaches."""
_SHARE_OF_TRIAL = 0.5
"""Of the layers that a trial of many runs: those before the first changed one are known, hopeless trials end early."""
_QUANTIZED_SLOWDOWN = 4.0
"""How much slower the quantized modules are than 16-bit ones, on a CPU."""


@lru_cache
def matmul_flops() -> float:
    """Floating-point operations a second of a bfloat16 matrix product on the device at hand, measured once."""
    device = best_device()
    matrix = torch.ones(1024, 1024, dtype=torch.bfloat16, device=device)
    matrix @ matrix
    started = time.perf_counter()
    for _ in range(4):
        result = matrix @ matrix
    result[0, 0].item()  # waits for a GPU
    return float(4 * 2 * 1024**3 / (time.perf_counter() - started))


def expected_seconds(
    config: CompressionConfig, dense: PretrainedConfig, family: Family
) -> tuple[dict[StageName, float], str]:
    """Seconds a stage, good to a factor of about three, and a sentence that says so."""
    weights = Blocks.of(dense, family).total
    weights += dense.vocab_size * dense.hidden_size
    layers = dense.num_hidden_layers
    length = config.sequence_length
    forward = 2.0 * weights / (matmul_flops() * EFFICIENCY)  # seconds a token
    lowered = sum(bits != 16 for bits in config.allocate.precisions)
    read = weights * 2 / 5e8  # loading and writing, at half a gigabyte a second
    quantized = 2 + ("merged_quantized" in config.export.formats)  # models that are measured on quantized modules
    fitting = weights * 2e-7 * lowered  # of modules at every precision, for the score and all stages behind it
    seconds: dict[StageName, float] = {
        "prune": read + 3 * forward * config.prune.calibration_sequences * length,
        "score": read + forward * _forwards_of_score(config.score, lowered, layers) * length + fitting,
        "allocate": read + forward * _forwards_of_search(config) * length,
        "quantize": read + weights * 2e-8 * (1 + config.quantize.loftq_iterations),
        "finetune": 2 * read + forward * _forwards_of_recovery(config.finetune) * length,
        "evaluate": (3 + quantized) * read
        + (3 + quantized * _QUANTIZED_SLOWDOWN) * forward * config.evaluate.max_tokens,
        "export": 2 * read,
    }
    note = "stage_seconds is worked out from the speed of the machine that answers, good to a factor of about three."
    return {stage: round(value, 1) for stage, value in seconds.items()}, note


def _forwards_of_score(settings: ScoreConfig, lowered: int, layers: int) -> float:
    """Sequences that scoring is expected to run through the model; a backward pass counts as two."""
    of_each = 2 * lowered + 2 * settings.fisher_samples if settings.sensitivity == "fisher" else lowered * layers
    return float(settings.calibration_sequences * (1 + of_each))


def _forwards_of_search(config: CompressionConfig) -> float:
    """Sequences that the search is expected to run; to measure divergence, the 16-bit model runs on them once."""
    settings = config.allocate
    if settings.search in ("knapsack", "mutual_information", "uniform"):
        return 2.0 * settings.calibration_sequences
    if settings.objective == "divergence":
        return settings.calibration_sequences * (1 + _SHARE_OF_TRIAL * settings.trials)
    trained = 3 * settings.recovery_steps * config.finetune.batch_size * config.finetune.gradient_accumulation
    return float(settings.trials * (trained + settings.calibration_sequences))


def _forwards_of_recovery(settings: FinetuneConfig) -> float:
    """Sequences that recovery is expected to run, each pass through a model counted; the dense one is taken to fit."""
    if settings.steps == 0:
        return 0.0
    passes = 3 + (settings.loss != "cross_entropy") + settings.activation_checkpointing
    trained = passes * settings.steps * settings.batch_size * settings.gradient_accumulation
    evaluations = settings.steps // settings.evaluate_every + 2
    return float(trained + evaluations * settings.validation_sequences)
