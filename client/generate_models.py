"""Writes ``qpruner_client/models`` from an OpenAPI description: ``python generate_models.py openapi.json FOLDER``.

Responses become Pydantic models that keep fields they do not know, and whose enumerations take values that a newer
service may return. Bodies of requests become TypedDicts: the service validates them.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Schema = dict[str, Any]
PREFIX = "#/components/schemas/"
MODULES = {
    "stage_settings": (
        "PruneConfig",
        "ScoreConfig",
        "AllocateConfig",
        "QuantizeConfig",
        "FinetuneConfig",
        "EvaluateConfig",
        "ExportConfig",
        "FitConfig",
    ),
    "settings": (
        "JobRequest",
        "EstimateRequest",
        "ModelRequest",
        "WebhookRequest",
        "WebhookChange",
        "RotationRequest",
        "KeyRequest",
    ),
    "reports": ("CompressionReport", "Estimate"),
    "event_data": (
        "NoData",
        "StartedData",
        "StageStartedData",
        "StageProgressData",
        "StageFinishedData",
        "WarningData",
        "AttemptLostData",
        "CancelledData",
        "FailedData",
    ),
    "events": ("EventPage",),
    "problems": ("ProblemDocument",),
    "webhooks": ("WebhookPage", "WebhookSecret", "DeliveryPage"),
    "service": ("Readiness", "Alive"),
    "datasets": ("DatasetPage",),
    "uploads": ("ModelPage", "ModelView"),
    "keys": ("KeyList", "NewKeyView", "AuditPage"),
}
"""Files, and the schemas that they hold with all that these refer to; what is in none of them is in ``jobs``."""
REQUESTS = ("stage_settings", "settings")
REST = "jobs"
_IMPORTS = """\
from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

from pydantic import Field, RootModel

"""


def generate(description: Schema) -> dict[str, str]:
    """The text of every file, by name. It wants ``ruff check --fix`` for unused imports and ``ruff format``."""
    schemas: dict[str, Schema] = description["components"]["schemas"]
    homes = _homes(schemas)
    files = {f"{module}.py": _module(module, schemas, homes) for module in dict.fromkeys(homes.values())}
    return files | {"__init__.py": _package(schemas, homes)}


def _homes(schemas: dict[str, Schema]) -> dict[str, str]:
    homes: dict[str, str] = {}
    for module, roots in MODULES.items():
        for root in roots:
            for name in sorted(_closure(root, schemas)):
                homes.setdefault(name, module)
    for name in schemas:
        homes.setdefault(name, REST)
    return homes


def _closure(root: str, schemas: dict[str, Schema]) -> set[str]:
    found: set[str] = set()
    waiting = [root] if root in schemas else []
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(schemas[name])
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if str(part.get("$ref", "")).startswith(PREFIX):
            yield part["$ref"].removeprefix(PREFIX)
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _module(module: str, schemas: dict[str, Schema], homes: dict[str, str]) -> str:
    own = [name for name in _in_order(schemas) if homes[name] == module]
    imported: dict[str, set[str]] = {}
    for name in own:
        for other in _references(schemas[name]):
            if homes[other] != module:
                imported.setdefault(homes[other], set()).add(other)
    lines = [f"from qpruner_client.models.{one} import {', '.join(sorted(names))}" for one, names in imported.items()]
    request = module in REQUESTS
    if not request:
        lines.append("from qpruner_client.models.base import Model")
    body = "\n\n\n".join(_definition(name, schemas[name], request, schemas) for name in own)
    what = "Bodies of requests" if request else "Bodies of responses"
    note = f'"""{what}. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""\n\n'
    return note + _IMPORTS + "\n".join(lines) + "\n\n\n" + body + "\n"


def _in_order(schemas: dict[str, Schema]) -> list[str]:
    """Names so that each comes after those that it refers to."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in done:
            for other in _references(schemas[name]):
                visit(other)
            done[name] = None

    for name in sorted(schemas):
        visit(name)
    return list(done)


def _definition(name: str, schema: Schema, request: bool, schemas: dict[str, Schema]) -> str:
    if "oneOf" in schema:
        return _union(name, schema, schemas)
    required = set(schema.get("required", ()))
    lines = [f"class {name}({'TypedDict, total=False' if request else 'Model'}):", _docstring(schema)]
    for field, described in schema.get("properties", {}).items():
        kind = _type(described, request)
        if request:
            lines.append(f"    {field}: {f'Required[{kind}]' if field in required else kind}")
        elif field in required:
            lines.append(f"    {field}: {kind}")
        else:
            default = described.get("default")
            known = "default" in described
            optional = kind if known or "None" in kind.split(" | ") else f"{kind} | None"
            made = f"Field(default_factory=lambda: {default!r})" if isinstance(default, list | dict) else repr(default)
            lines.append(f"    {field}: {optional} = {made}")
        if text := described.get("description"):
            lines.append(_docstring({"description": text}))
    return "\n".join(lines)


def _union(name: str, schema: Schema, schemas: dict[str, Schema]) -> str:
    members = [one["$ref"].removeprefix(PREFIX) for one in schema["oneOf"]]
    kind = schema["discriminator"]["propertyName"]
    shared = [
        field for field in schemas[members[0]]["properties"]
        if all(field in schemas[one]["properties"] for one in members)
    ]  # fmt: skip
    other = f"Other{name.removesuffix('View')}"
    lines = [
        f"class {other}(Model):",
        f'    """One of a kind that this release does not know, by its ``{kind}``."""',
        "",
    ]
    for field in shared:
        described = schemas[members[0]]["properties"][field]
        free = "str" if field == kind else "dict[str, Any]" if "$ref" in described else _type(described, False)
        lines.append(f"    {field}: {free}")
    union = " | ".join([*members, other])
    lines += ["", "", f"class {name}(RootModel[Annotated[{union}, Field(union_mode='left_to_right')]]):"]
    return "\n".join([*lines, _docstring(schema)])


def _type(schema: Schema, request: bool) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].removeprefix(PREFIX))
    if "allOf" in schema:
        return _type(schema["allOf"][0], request)
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        kinds = dict.fromkeys(_type(one, request) for one in alternatives)
        return " | ".join(sorted(kinds, key=lambda kind: kind == "None"))
    if "const" in schema:
        return f"Literal[{schema['const']!r}]"
    if "enum" in schema:
        names = f"Literal[{', '.join(map(repr, schema['enum']))}]"
        return names if request else f"{names} | str"
    return _plain_type(schema, request)


def _plain_type(schema: Schema, request: bool) -> str:
    match schema.get("type"):
        case "array":
            return f"list[{_type(schema.get('items', {}), request)}]"
        case "object":
            values = schema.get("additionalProperties", True)
            return f"dict[str, {_type(values, request) if isinstance(values, dict) else 'Any'}]"
        case "string":
            times = {"date-time": "datetime", "date": "date"}
            kind = times.get(schema.get("format", ""), "str")
            return f"{kind} | str" if request and kind != "str" else kind
        case "integer":
            return "int"
        case "number":
            return "float"
        case "boolean":
            return "bool"
        case "null":
            return "None"
    return "Any"


def _docstring(schema: Schema) -> str:
    text = schema.get("description", "") or "See the API."
    if "\n" not in text and len(text) < 108:
        return f'    """{text}"""\n'
    paragraphs = [
        textwrap.fill(part, 112, break_long_words=False, break_on_hyphens=False) for part in text.split("\n\n")
    ]
    return textwrap.indent('"""' + "\n\n".join(paragraphs) + '\n"""\n', "    ", lambda line: bool(line.strip()))


def _package(schemas: dict[str, Schema], homes: dict[str, str]) -> str:
    lines = ['"""Types of the bodies that the service sends and accepts. Generated; see ``generate_models.py``."""', ""]
    others = [f"Other{name.removesuffix('View')}" for name, schema in schemas.items() if "oneOf" in schema]
    exported = {module: sorted(name for name in schemas if homes[name] == module) for module in homes.values()}
    for name in others:
        exported[homes[next(one for one in schemas if f"Other{one.removesuffix('View')}" == name)]].append(name)
    for module in sorted(exported):
        lines.append(f"from qpruner_client.models.{module} import {', '.join(exported[module])}")
    names = sorted([*schemas, *others])
    return "\n".join([*lines, "", f"__all__ = {names!r}", ""])


def main() -> None:
    """Write the files."""
    description, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for name, text in generate(json.loads(description.read_text())).items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
