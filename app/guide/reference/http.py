"""The HTTP API from its OpenAPI description: every operation, its parameters, body and responses."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.guide.reference.schema_table import HEADER, rows
from app.main import create_app
from app.settings import Settings

_INTRODUCTION = """\
# HTTP API

The service describes itself at `/openapi.json`, and `/docs` lets you try each request. Send an API key as
`Authorization: Bearer qp_…` where the service demands one. Sizes are bytes, and may be sent as `"130MB"` or `"6GiB"`.
Times are RFC 3339 in UTC. Errors are [problem documents](errors.md). [Settings of a job](job-settings.md) explains the
sections of its body.
"""


def render() -> str:
    """The page in Markdown."""
    schema = description()
    lines = [_INTRODUCTION]
    for tag in schema["tags"]:
        entries = list(_operations(schema, tag["name"]))
        if entries:
            lines += [f"## {tag['name'].capitalize()}\n", tag["description"] + "\n", *entries]
    return "\n".join([*lines, "## Bodies\n", *_bodies(schema["components"]["schemas"])])


def description() -> dict[str, Any]:
    """The OpenAPI description of a service with a local store, which has every operation."""
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Settings(data_dir=Path(folder), _env_file=None)).openapi()


def _operations(schema: Mapping[str, Any], tag: str) -> Iterator[str]:
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if tag in operation.get("tags", ()):
                yield _operation(schema, f"{method.upper()} {path}", operation)


def _bodies(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        if name.endswith("Config"):
            continue  # the settings of a job have their own page
        yield f"### {name}\n\n{schema.get('description', '')}\n"
        if properties := schema.get("properties"):
            yield "\n".join([HEADER, *rows(properties), ""])
        elif "enum" in schema:
            yield f"One of {', '.join(f'`{value}`' for value in schema['enum'])}.\n"


def _operation(schema: Mapping[str, Any], title: str, operation: Mapping[str, Any]) -> str:
    lines = [f"### `{title}`\n", operation.get("description") or operation.get("summary", ""), ""]
    if parameters := operation.get("parameters"):
        lines += ["| parameter | in | type | default | meaning |", "|---|---|---|---|---|"]
        for one in parameters:
            described = {**one["schema"], "description": one.get("description", "")}
            _, name, kind, default, meaning, _ = next(rows({one["name"]: described})).replace("\\|", "/").split("|")
            lines.append(f"|{name}| {one['in']} |{kind}|{default}|{meaning}|")
        lines.append("")
    if body := operation.get("requestBody"):
        lines += [f"Body: {', '.join(_body(kind, content['schema']) for kind, content in body['content'].items())}", ""]
    lines += ["| status | body | meaning |", "|---|---|---|"]
    for status, answer in operation["responses"].items():
        kinds = [f"{_name(content.get('schema', {}))}" for content in answer.get("content", {}).values()]
        lines.append(f"| {status} | {', '.join(filter(None, kinds))} | {answer.get('description', '')} |")
    return "\n".join([*lines, ""])


def _body(kind: str, schema: Mapping[str, Any]) -> str:
    """A media type of a request and the name of its schema; a file or a form has none."""
    name = _name(schema)
    return f"`{kind}` ({name})" if name else f"`{kind}`"


def _name(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[-1]}`"
    if "anyOf" in schema:
        return " or ".join(filter(None, map(_name, schema["anyOf"])))
    return f"`{schema['title']}`" if "title" in schema else ""
