"""Named sets of settings: the paper's three methods, its baseline, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel

PresetName = Literal["llm-pruner", "qpruner1", "qpruner2", "qpruner3", "best"]

_LLM_PRUNER_PRUNING = {
    "criterion": "taylor_first",
    "layout": "same_ratio",
    "attention_unit": "kv_group",
    "compensation": "none",
    "protect_first": 4,
    "protect_last": 2,
    "width_multiple": 1,
    "calibration_sequences": 10,
}
"""LLM-Pruner's settings (arXiv 2305.11627), which the paper also prunes with."""
_LLM_PRUNER_RECOVERY = {
    "loss": "cross_entropy",
    "learning_rate": 1e-4,
    "warmup_steps": 100,
    "dropout": 0.05,
    "validation_sequences": 0,
}
"""As in LLM-Pruner's README, except batch size and number of steps, which stay those of the run."""
_SHARED = {"prune": _LLM_PRUNER_PRUNING, "finetune": _LLM_PRUNER_RECOVERY}
_LOFTQ = {"int8": "llm_int8", "rounding": "nearest", "initialisation": "loftq", "loftq_iterations": 1}
_QPRUNER = {"granularity": "layer", "embeddings": False}

PRESETS: Mapping[PresetName, Mapping[str, Mapping[str, Any]]] = {
    "llm-pruner": {
        **_SHARED,
        "allocate": {**_QPRUNER, "precisions": ("bf16",), "search": "uniform"},
        "quantize": {"initialisation": "zero"},
    },
    "qpruner1": {**_SHARED, "allocate": {**_QPRUNER, "precisions": ("nf4",), "search": "uniform"}, "quantize": _LOFTQ},
    "qpruner2": {
        **_SHARED,
        "score": {"information": "kmeans", "calibration_sequences": 8},
        "allocate": {**_QPRUNER, "precisions": ("nf4", "int8"), "search": "mutual_information"},
        "quantize": _LOFTQ,
    },
    "qpruner3": {
        **_SHARED,
        "score": {"information": "kmeans", "calibration_sequences": 8},
        "allocate": {
            **_QPRUNER,
            "precisions": ("nf4", "int8"),
            "search": "bayesian",
            "prior": "none",
            "objective": "recovered",
            "trials": 40,
        },
        "quantize": _LOFTQ,
    },
    "best": {},
}
"""Settings by preset and stage; ``best`` consists of the defaults."""


PAPER_PRESETS = frozenset(PRESETS) - {"best"}
"""Presets of the paper, whose precisions belong to bitsandbytes."""


def with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` of a run merged over the settings of its ``preset``: settings given by name take precedence."""
    merged = dict(values)
    preset = values.get("preset")
    named = PRESETS.get(cast(PresetName, preset), {}) if isinstance(preset, str) else {}
    if isinstance(preset, str) and preset in PAPER_PRESETS:
        merged.setdefault("target", "bitsandbytes")
    for stage, settings in named.items():
        given = merged.get(stage, {})
        if isinstance(given, BaseModel):
            given = given.model_dump(exclude_unset=True)
        if isinstance(given, Mapping):  # validation reports other types
            merged[stage] = {**settings, **given}
    return merged
