"""Renamed settings: recipes, database rows and scripts with the former names are still read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qpruner_core.strict import fault_at
from qpruner_core.targets.config import DEFAULT_TARGET


def with_runs_on(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` of a run with ``runs_on`` in place of ``quantize.humming_kernels`` and ``fit.device``.

    Raises:
        ValidationError: they contradict each other, or a ``runs_on`` beside them.
    """
    merged = dict(values)
    humming, device = _taken(merged, "quantize", "humming_kernels"), _taken(merged, "fit", "device")
    meant = device
    # For other targets this setting had no meaning
    if humming in (True, "true", "True") and merged.get("target", DEFAULT_TARGET) == DEFAULT_TARGET:
        meant = "gpu+humming" if device in (None, "gpu") else None
    elif device is None:
        return merged
    if meant is None or merged.get("runs_on", meant) != meant:
        said = "quantize.humming_kernels or fit.device, its former names, contradict it: give only runs_on"
        raise fault_at("runs_on", said, merged.get("runs_on"))
    return merged | {"runs_on": meant}


def _taken(values: dict[str, Any], group: str, name: str) -> Any:
    """Remove and return the value at ``group.name`` in ``values``; ``None`` if there is none."""
    settings = values.get(group)
    if not isinstance(settings, Mapping) or name not in settings:
        return None
    values[group] = {key: value for key, value in settings.items() if key != name}
    return settings[name]
