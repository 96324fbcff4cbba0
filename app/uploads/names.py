"""Allowed files and file names of a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.problems import Fault, Problem

SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja", ".gguf")
"""Suffixes of a model's files: files that are read, and nothing executable."""

_TEMPLATES = "additional_chat_templates/"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
_REMEDY = (
    f"Send config.json, the tokenizer's files and .safetensors weights, or one GGUF model: names end in "
    f"{', '.join(SUFFIXES)}, and have no folder but {_TEMPLATES}."
)


def refuse_bad_names(names: Sequence[str]) -> None:
    """Return if a model may consist of files with these names.

    Raises:
        Problem: 422 ``file_refused`` with an error per name; 422 ``model_incomplete``.
    """
    faults = [
        Fault(field=f"files.{index}.name", detail=why)
        for index, name in enumerate(names)
        if (why := _fault(name, names[:index]))
    ]
    if faults:
        raise Problem(422, "file_refused", faults[0].detail, field=faults[0].field, remedy=_REMEDY, errors=faults)
    is_directory = "config.json" in names and any(name.endswith(".safetensors") for name in names)
    if not is_directory and not any(name.endswith(".gguf") for name in names):
        raise Problem(
            422,
            "model_incomplete",
            "The files are neither config.json and .safetensors weights nor a GGUF model.",
            field="files",
            remedy=_REMEDY,
        )


def _fault(name: str, earlier: Sequence[str]) -> str | None:
    plain = name.removeprefix(_TEMPLATES)
    if not _NAME.fullmatch(plain) or (plain != name and not plain.endswith(".jinja")):
        return f"{name!r} is not a valid file name of a model."
    if not plain.endswith(SUFFIXES):
        return f"{name!r} is not a kind of file that belongs to a model."
    if name.lower() in (other.lower() for other in earlier):
        return f"{name!r} occurs twice."
    return None
