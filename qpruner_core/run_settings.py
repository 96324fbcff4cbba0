"""The settings of a run on the command line. Named options override the file, and ``--set`` overrides both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from qpruner_core.errors import InvalidConfigError
from qpruner_core.recipe_settings import is_recipe, merged, settings_of_recipe
from qpruner_core.repeated_keys import RepeatedKeyError, unique_keys

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="A YAML or JSON file of settings, or a recipe.json to reproduce. Options take precedence."
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(help="A .jsonl, .json, .csv, .tsv, .txt or .parquet file (also .gz, .zst), or a hub dataset id."),
]
PruneRatio = Annotated[
    float | None, typer.Option(help=("Fraction to prune; default: the smallest that the budget allows."))
]
Trials = Annotated[int | None, typer.Option(help="Allocations to try.")]
FinetuneSteps = Annotated[int | None, typer.Option(help="Optimiser steps of recovery.")]
Seed = Annotated[int | None, typer.Option(help="Random seed; 0 by default.")]
Preset = Annotated[
    str | None,
    typer.Option(help="Starting values: llm-pruner, qpruner1, qpruner2, qpruner3 (the papers') or best (ours)."),
]
OtherSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting, as path=value: --set allocate.trials=80 (JSON values)."),
]


_PLACES = {"model": "as the argument MODEL", "dataset": "with --dataset"}


def run_settings(
    file: Path | None,
    given: Mapping[str, Any],
    settings: Iterable[str] | None,
    *,
    needed: Sequence[str] = ("model", "dataset"),
) -> dict[str, Any]:
    """The settings of a run, not yet validated.

    Args:
        file: YAML or JSON file of settings, or a recipe.
        given: values of options by their dotted paths; ``None`` means not given.
        settings: texts ``path=value``.
        needed: names that must have a value.

    Raises:
        InvalidConfigError: the file cannot be read, a setting is malformed, or a needed one is missing.
    """
    values = {} if file is None else read_settings(file)
    named: dict[str, Any] = {}
    pairs = [(path, value) for path, value in given.items() if value is not None]
    pairs += [_setting(text) for text in settings or []]
    for path, value in pairs:
        *parents, name = path.split(".")
        target = named
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InvalidConfigError(f"{parent!r} has no settings of its own.", field=path, remedy="See --help.")
        _place(target, name, value)
    values = merged(values, named)
    for name in needed:
        if values.get(name) is None:
            remedy = f"Give it {_PLACES[name]}, or in the file of --config."
            raise InvalidConfigError(f"No {name} is given.", field=name, remedy=remedy)
    return values


def _place(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set ``name``, or each setting of its own where both the former value and ``value`` have some."""
    known = settings.get(name)
    if not (isinstance(known, dict) and isinstance(value, dict)):
        settings[name] = value
        return
    for inner, one in value.items():
        _place(known, inner, one)


def read_settings(file: Path) -> dict[str, Any]:
    """The settings in a YAML or JSON file, or those of the run whose ``recipe.json`` it is.

    Raises:
        InvalidConfigError: it cannot be read, holds no settings, or has a key twice.
    """
    import yaml

    from qpruner_core.unique_yaml import unique_yaml

    try:
        text = file.read_text(encoding="utf-8")
        # JSON first, the format of recipes: some of it, such as 1e-4, is text in YAML
        is_json = text.lstrip().startswith("{")
        values = json.loads(text, object_pairs_hook=unique_keys) if is_json else unique_yaml(text)
    except OSError as error:
        raise _bad_file(f"{file} cannot be read: {error.strerror}.") from error
    except RepeatedKeyError as error:
        raise _bad_file(f"{file} cannot be used: {error}.", "Keep one of them.") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise _bad_file(f"{file} is neither YAML nor JSON: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise _bad_file(f"{file} contains no settings.")
    return settings_of_recipe(values) if is_recipe(values) else values


def _bad_file(
    message: str, remedy: str = "Give a file with lines such as `memory_budget: 130MB`, or a recipe.json."
) -> InvalidConfigError:
    return InvalidConfigError(message, field="--config", remedy=remedy)


def _setting(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals:
        raise InvalidConfigError(
            f"{text!r} is not path=value.", field="--set", remedy="Write --set allocate.trials=80."
        )
    try:
        return path, json.loads(value, object_pairs_hook=unique_keys)
    except RepeatedKeyError as error:
        raise InvalidConfigError(f"{text!r}: {error}.", field="--set", remedy="Keep one of them.") from error
    except (ValueError, RecursionError):  # also a number of thousands of digits, which validation rejects by name
        return path, value
