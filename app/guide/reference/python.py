"""The public names of ``qpruner_core``: signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

import qpruner_core
from app.guide.reference.schema_table import HEADER, rows
from qpruner_core.config import CompressionConfig

_INTRODUCTION = "# Python\n\n`import qpruner_core` does not load torch; functions that need it load it on first use.\n"


def render() -> str:
    """The page in Markdown."""
    return "\n".join([_INTRODUCTION, *(_entry(name) for name in qpruner_core.__all__)])


def _entry(name: str) -> str:
    one = getattr(qpruner_core, name)
    text = inspect.cleandoc(one.__doc__ or "").replace("``", "`")
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)
    if inspect.isclass(one) and issubclass(one, BaseModel):
        return f"## `{name}`\n\n{_sections(text)}\n\n{_fields(one)}\n"
    return f"## `{name}`\n\n```python\n{_signature(name, one)}\n```\n\n{_sections(text)}\n"


def _fields(model: type[BaseModel]) -> str:
    if model is CompressionConfig:
        return "Its fields are the [settings of a job](job-settings.md)."
    return "\n".join([HEADER, *rows(model.model_json_schema(mode="serialization")["properties"])])


def _signature(name: str, one: Any) -> str:
    if inspect.isclass(one) and issubclass(one, BaseException):
        return f"class {name}({one.__bases__[0].__name__})"
    signature = inspect.signature(one)
    parameters = ",\n    ".join(_parameters(signature))
    returned = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    if inspect.isclass(one):
        returned = ""
    kind = "class" if inspect.isclass(one) else "def"
    between = f"\n    {parameters},\n" if parameters else ""
    return f"{kind} {name}({between}){returned}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """Each parameter, with ``/`` after the positional-only ones and ``*`` before the keyword-only ones."""
    before = None
    for one in signature.parameters.values():
        if before is inspect.Parameter.POSITIONAL_ONLY and one.kind is not before:
            yield "/"
        named = one.kind is inspect.Parameter.KEYWORD_ONLY
        if named and before not in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL):
            yield "*"
        yield _parameter(one)
        before = one.kind
    if before is inspect.Parameter.POSITIONAL_ONLY:
        yield "/"


def _parameter(parameter: inspect.Parameter) -> str:
    said = str(parameter).replace("'", "") if isinstance(parameter.annotation, str) else str(parameter)
    return said.split(" = <")[0] + " = …" if " = <" in said else said  # a function has an address instead of a text


def _sections(docstring: str) -> str:
    """Google's sections (``Args:``, ``Raises:``) as lists of Markdown."""
    lines, section = [], False
    for line in docstring.splitlines():
        if line in ("Args:", "Raises:", "Returns:", "Attributes:"):
            section = True
            lines += [f"**{line[:-1]}**", ""]
        elif section and line.startswith("    ") and not line.startswith("     "):
            name, colon, rest = line.strip().partition(": ")
            lines.append(f"- `{name}`: {rest}" if colon else f"- {line.strip()}")
        elif line and not line.startswith(" "):
            section = False
            lines.append(line)
        else:
            lines.append(line.strip() if not section else f"  {line.strip()}".rstrip())
    return "\n".join(lines)
