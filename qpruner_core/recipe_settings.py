"""From a ``recipe.json`` back to the settings of its run, to reproduce its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qpruner_core.errors import InvalidConfigError

_REMEDY = "Give the recipe.json of a finished run, unchanged."


def is_recipe(values: Mapping[str, Any]) -> bool:
    """Whether ``values`` is the content of a ``recipe.json`` instead of settings."""
    return "config" in values and "files" in values


def settings_of_recipe(recipe: Any) -> dict[str, Any]:
    """The settings that reproduce the files of ``recipe``.

    They are those of its run, with the choice of its machine in place of each ``auto``. ``expected`` holds the digests
    of model and dataset: a run with others is rejected.

    Raises:
        InvalidConfigError: it is not a recipe.
    """
    if not isinstance(recipe, Mapping) or not isinstance(recipe.get("config"), Mapping):
        raise InvalidConfigError("The recipe has no settings.", field="recipe", remedy=_REMEDY)
    settings = dict(recipe["config"])
    if products := _text(recipe, "machine", "compute_dtype"):
        settings["compute_dtype"] = products
    loss = recipe.get("recovery_loss")
    expected = {
        "model_digest": _text(recipe, "model", "digest"), "dataset_sha256": _text(recipe, "dataset", "sha256"),
        "recovery_loss": loss if isinstance(loss, str) else None,
    }  # fmt: skip
    settings["expected"] = {name: value for name, value in expected.items() if value}
    return settings


def with_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` of a run merged over the settings of its ``recipe``, if it has one: settings given by name take
    precedence.

    Raises:
        InvalidConfigError: it is not a recipe.
    """
    given = dict(values)
    if given.get("recipe") is None:
        given.pop("recipe", None)
        return given
    return merged(settings_of_recipe(given.pop("recipe")), given)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with the settings of ``above`` in their place, merged setting by setting, also within stages."""
    result = dict(below)
    for name, value in above.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    if above.get("memory_budget") is not None and "fit" not in above:
        result["fit"] = None
    elif above.get("fit") is not None and "memory_budget" not in above:
        result["memory_budget"] = None
    return result


def _text(recipe: Mapping[str, Any], part: str, name: str) -> str | None:
    value = recipe.get(part)
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else None
