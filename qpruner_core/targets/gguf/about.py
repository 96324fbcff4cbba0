"""Metadata about a model's origin."""

from __future__ import annotations

from typing import Any


def about_model(name: str, *, source: str, pruned: str, recipe: str, quantized_by: str = "qpruner") -> dict[str, Any]:
    """Metadata of a file: ``source`` names the dense model, ``pruned`` describes in a sentence what was removed.

    Empty values are left out. ``recipe``: SHA-256 of all inputs of the weights.
    """
    values = {
        "general.name": name,
        "general.description": pruned,
        "general.quantized_by": quantized_by,
        "qpruner.source": source,
        "qpruner.pruned": pruned,
        "qpruner.recipe_sha256": recipe,
    }
    found: dict[str, Any] = {key: value for key, value in values.items() if value}
    if source:
        found |= {"general.base_model.count": 1, "general.base_model.0.name": source}
    return found
