"""An unknown setting, and the one that was probably meant."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import get_args

from pydantic import BaseModel

_LONGEST_NAME = 100  # longer ones resemble no setting, and comparing them takes long


def unknown_setting(path: str, model: type[BaseModel]) -> str:
    """A sentence about the unknown dotted ``path`` in the settings ``model``, with the nearest known one, if any."""
    said = f"Unknown setting `{path[:_LONGEST_NAME]}`"
    near = get_close_matches(path, _names(model), n=1, cutoff=0.7) if len(path) <= _LONGEST_NAME else []
    return f"{said}; did you mean `{near[0]}`?" if near else f"{said}."


@cache
def _names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(_walk(model, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _walk(kind, f"{prefix}{name}.")
