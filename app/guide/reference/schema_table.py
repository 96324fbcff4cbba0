"""Tables of settings from a JSON schema: type, default, bounds, values and meaning of each property."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
HEADER = "| name | type | default | meaning |\n|---|---|---|---|"


def rows(properties: Schema, *, prefix: str = "", skip: frozenset[str] = frozenset()) -> Iterator[str]:
    """One row of Markdown per property, ``prefix`` before its name."""
    for name, schema in properties.items():
        if name not in skip:
            cells = f"`{prefix}{name}`", _type(schema), _default(schema), _cell(schema.get("description", ""))
            yield f"| {' | '.join(cells)} |"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        kinds = [_type(one) for one in schema["anyOf"]]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[-1]}`"
    if schema.get("type") == "array":
        inner: Schema = schema.get("items") or next(iter(schema.get("prefixItems", [])), {})
        return f"list of {_type(inner)}{_bounds(schema, 'Items')}" if inner else "list"
    kind = {"integer": "integer", "number": "number", "boolean": "boolean", "string": "string", "null": "null"}
    name = "date" if schema.get("format") == "date" else kind.get(str(schema.get("type")), "any")
    name = "path" if schema.get("format") == "path" else name
    return name + _bounds(schema, "Length")


def _bounds(schema: Schema, counted: str) -> str:
    said = [
        f"{sign} {schema[key]:,}"
        for key, sign in (
            ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]  # fmt: skip
    unit = "characters" if counted == "Length" else "entries"
    limits = (f"min{counted}", "≥"), (f"max{counted}", "≤")
    said += [f"{sign} {schema[key]:,} {unit}" for key, sign in limits if key in schema]
    return f" ({', '.join(said)})" if said else ""


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    return "" if value in (None, []) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
