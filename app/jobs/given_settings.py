"""The explicitly given settings of a job, separated from defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from app.jobs.models import Job
from qpruner_core.config import CompressionConfig
from qpruner_core.recipe_settings import merged

_ALWAYS = ("model", "dataset", "memory_budget", "fit", "preset")
_DECIDE = ("target", "runs_on")


def request_of(job: Job, default_deadline: int) -> dict[str, Any]:
    """The body of ``POST /jobs`` that creates the same job again, without defaults."""
    extras = {
        "labels": job.labels,
        "priority": job.priority or 0,
        "deadline": job.deadline if job.deadline != default_deadline else None,
    }
    return given_settings(job.config) | {name: value for name, value in extras.items() if value}


def given_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config``, a complete one from a job, without settings that equal the defaults and its preset.

    A config that this release cannot read is returned whole.
    """
    named = {name: config[name] for name in _ALWAYS if config.get(name) is not None}
    if fit := named.get("fit"):
        named["fit"] = {"memory": fit["memory"]}
    decided = {name: config[name] for name in _DECIDE if name in config}
    recovery = config.get("finetune", {}).get("recovery")
    try:
        by_default = _dumped(named)
        beneath = _dumped(named | decided | ({"finetune": {"recovery": recovery}} if recovery else {}))
    except ValidationError:
        return dict(config)
    for name in decided:  # formats and precisions follow from it
        beneath[name] = by_default[name]
    if recovery:
        beneath["finetune"]["recovery"] = by_default["finetune"]["recovery"]
    changed = _different(config, beneath)
    if named.get("preset") == CompressionConfig.model_fields["preset"].default:
        named.pop("preset")
    found = merged(named, changed)
    return {name: value for name, value in found.items() if value is not None or name not in _ALWAYS}


def _dumped(values: Mapping[str, Any]) -> dict[str, Any]:
    return CompressionConfig.model_validate(values).model_dump(mode="json")


def _different(values: Mapping[str, Any], beneath: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        known = beneath.get(name)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            if inside := _different(value, known):
                found[name] = inside
        elif value != known:
            found[name] = value
    return found
