"""The API description at ``/openapi.json``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from app.described_fields import ANY_SCHEMA, FIELDS, PARAMETERS
from app.openapi_examples import add_examples
from app.problems import MEDIA_TYPE, PROBLEM_SCHEMA, Fault, ProblemDocument

TITLE = "QPruner"
DESCRIPTION = (
    "Compresses a language model to a memory budget by structured pruning, mixed precision and "
    "recovery.\n\nSubmit a job with `POST /jobs`, follow it with `GET /jobs/{id}/events`, download its files "
    "from\n`GET /jobs/{id}/artifacts`. Times are RFC 3339 in UTC. Sizes are bytes, and may be sent as "
    '`"130MB"` or `"6GiB"`.\nEvery error is an RFC 9457 problem document with a stable `code`, and every '
    "response has `X-Request-Id`."
)
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
LICENSE = {"name": "Apache 2.0", "identifier": "Apache-2.0"}
TAGS = [
    {"name": "jobs", "description": "Compress models, follow the jobs, download the results."},
    {"name": "datasets", "description": "Upload text to calibrate, train and evaluate on."},
    {"name": "models", "description": "Upload your own models."},
    {"name": "storage", "description": "Usage of the store."},
    {"name": "webhooks", "description": "Receive events of jobs by HTTP."},
    {"name": "keys", "description": "API keys, and the log of changes."},
    {"name": "store", "description": "Signed URLs of the local store."},
    {"name": "operation", "description": "For operators of the service."},
]
_FASTAPI_PROBLEMS = "HTTPValidationError", "ValidationError"  # FastAPI's responses without our handlers


def describe_problems(app: FastAPI) -> None:
    """Put the problem document into the schema of ``app``, in place of FastAPI's own errors."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = original()
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            for name in _FASTAPI_PROBLEMS:
                components.pop(name, None)
            document = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            document.pop("$defs")
            components[ProblemDocument.__name__] = document
            components[Fault.__name__] = Fault.model_json_schema()
            _unify_problems(schema)
            _describe_fields(schema)
            _complete_operations(schema)
            add_examples(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_fields(schema: dict[str, Any]) -> None:
    """Add a description to every field and parameter without one."""
    for name, component in schema["components"]["schemas"].items():
        for field, described in component.get("properties", {}).items():
            text = FIELDS.get(name, {}).get(field) or ANY_SCHEMA.get(field)
            if text and "description" not in described:
                described["description"] = text
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in PARAMETERS:
                    parameter.setdefault("description", PARAMETERS[parameter["name"]])
                _name_bounds(parameter["schema"])


def _name_bounds(schema: dict[str, Any]) -> None:
    """Bounds after a custom validator have Pydantic's names, which JSON Schema does not know."""
    for name, known in _BOUNDS.items():
        if name in schema:
            schema[known] = schema.pop(name)


def _complete_operations(schema: dict[str, Any]) -> None:
    """Add to each operation whether it needs a key, and its errors before our code sees the request."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation.setdefault("security", [])
            if not any(status.startswith("4") for status in operation["responses"]):
                operation["responses"]["400"] = {"description": "The request is not valid HTTP."}


def _unify_problems(schema: dict[str, Any]) -> None:
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                described = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
                if described.endswith("/HTTPValidationError"):
                    answer["description"] = "`invalid_request`"
                if int(status) >= 400 and described.endswith(("/HTTPValidationError", "/ProblemDocument")):
                    answer["content"] = {MEDIA_TYPE: {"schema": {"$ref": PROBLEM_SCHEMA}}}


def main() -> None:
    """Write the API description of a service with a local store, which has every operation, to standard output."""
    import json
    import sys
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from app.main import create_app
    from app.settings import Settings

    with TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), database_url=None, store_url=None, _env_file=None)
        json.dump(create_app(settings).openapi(), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
