"""Examples of responses, built from the examples of fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "#/components/schemas/"
_ITEMS = 1
_TEXTS = {"date-time": "2026-11-28T12:00:00Z", "date": "2026-11-28"}
_BY_FIELD: Mapping[str, Any] = {
    "id": "job_01k9t4ae5xfz3v2s6q0m8y1d7c", "model": "demo:smollm2-135m-instruct", "status": "succeeded",
    "dataset": "ds_01k9t4ae5xfz3v2s6q0m8y1d7c", "memory_budget": 60_000_000, "bytes": 59_998_464, "sha256": "0" * 64,
    "stage": "finetune", "progress": 0.4, "loss": 0.1832, "target": "gguf", "variant": "final", "label": "final, GGUF",
    "filename": "task.txt", "kind": "text", "records": 812, "attempt": 1, "max_attempts": 3, "next_cursor": None,
    "next_after": None, "error": None, "self": "/jobs/job_01k9t4ae5xfz3v2s6q0m8y1d7c", "perplexity": 24.13,
}  # fmt: skip
"""Values of recurring fields without an example in the schema."""


def add_examples(schema: dict[str, Any]) -> None:
    """Add an example to every JSON body of a successful response without one."""
    schemas = schema["components"]["schemas"]
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                body = response.get("content", {}).get("application/json")
                if status.startswith("2") and body is not None and not {"example", "examples"} & body.keys():
                    body["example"] = example_of(body["schema"], schemas)


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], field: str = "") -> Any:
    """A value that ``schema`` allows. ``field``: its name in the enclosing object."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].removeprefix(PREFIX)], schemas, field)
    if examples := schema.get("examples"):
        return examples[0]
    if "const" in schema:
        return schema["const"]
    known = _BY_FIELD.get(field)
    if "enum" in schema:
        return known if known in schema["enum"] else schema["enum"][0]
    if alternatives := schema.get("oneOf") or schema.get("anyOf"):
        if field in _BY_FIELD and known is None and {"type": "null"} in alternatives:
            return None
        return example_of(alternatives[0], schemas, field)
    return _plain_example(schema, schemas, field)


def _plain_example(schema: Mapping[str, Any], schemas: Mapping[str, Any], field: str) -> Any:
    known = _BY_FIELD.get(field)
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {name: example_of(value, schemas, name) for name, value in schema["properties"].items()}
        case "object":
            return _map_example(schema, schemas, field)
        case "array":
            return [example_of(schema.get("items", {}), schemas)] * _ITEMS
        case "string":
            text = _TEXTS.get(schema.get("format", ""), "text")
            return known if isinstance(known, str) and "format" not in schema else text
        case "integer":
            return known if isinstance(known, int) else 1
        case "number":
            return known if isinstance(known, int | float) else 0.5
        case "boolean":
            return schema.get("default", True)
    return None


def _map_example(schema: Mapping[str, Any], schemas: Mapping[str, Any], field: str) -> dict[str, Any]:
    values = schema.get("additionalProperties")
    if field == "config" or not isinstance(values, dict):
        return {}
    names = schema.get("propertyNames", {}).get("enum", ["name"])
    return {names[0]: example_of(values, schemas)}
