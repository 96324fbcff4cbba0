"""The types of the client are those of the OpenAPI description."""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter

import qpruner_client.models
from app.main import create_app
from app.settings import Settings

CLIENT = Path(__file__).resolve().parents[2] / "client"
PREFIX = "#/components/schemas/"


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("data"), _env_file=None)).openapi()


def enumerated(schema: Any) -> set[Any]:
    """Every constant that values of a schema, or parts of it, may have."""
    if isinstance(schema, list):
        return set().union(*map(enumerated, schema), set())
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("enum", ())) | ({schema["const"]} if "const" in schema else set())
    return own.union(*(enumerated(part) for key, part in schema.items() if key not in ("enum", "propertyNames")))


def literals(kind: Any) -> set[Any]:
    """As :func:`enumerated`, of a type."""
    if get_origin(kind) is typing.Literal:
        return set(get_args(kind))
    return set().union(*map(literals, get_args(kind)), set())


def test_every_schema_has_a_type_with_its_fields_enumerations_and_required_ones(description: dict[str, Any]) -> None:
    for name, schema in description["components"]["schemas"].items():
        kind = getattr(qpruner_client.models, name)
        if "oneOf" in schema:
            members = {one["$ref"].removeprefix(PREFIX) for one in schema["oneOf"]}
            union = get_args(kind.model_fields["root"].annotation)
            assert members < {member.__name__ for member in union}, name
            continue
        properties = schema.get("properties", {})
        hints = typing.get_type_hints(kind)
        if issubclass(kind, BaseModel):
            fields = kind.model_fields
            assert set(fields) == set(properties), name
            assert {field for field, info in fields.items() if info.is_required()} == set(schema.get("required", ()))
        else:
            assert kind.__annotations__.keys() == properties.keys(), name
            hints_of = typing.get_type_hints(kind, include_extras=True)
            demanded = {field for field, hint in hints_of.items() if get_origin(hint) is typing.Required}
            assert demanded == set(schema.get("required", ())), name
        for field, described in properties.items():
            assert literals(hints[field]) == enumerated(described), (name, field)


def test_the_types_are_as_they_would_be_generated_now(description: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(description))
    fresh = tmp_path / "models"
    fresh.mkdir()
    made = CLIENT / "qpruner_client" / "models"
    script = [sys.executable, CLIENT / "generate_models.py", tmp_path / "openapi.json", fresh]
    subprocess.run(script, check=True, timeout=60)
    ruff = [Path(sys.executable).with_name("ruff")]
    config = ["--config", CLIENT.parent / "pyproject.toml", "--no-cache"]
    for _ in range(2):
        subprocess.run([*ruff, "check", "--fix-only", "--quiet", *config, fresh], check=True, timeout=60)
        subprocess.run([*ruff, "format", "--quiet", *config, fresh], check=True, timeout=60)
    for path in fresh.iterdir():
        same = path.read_text().replace("\n\n", "\n") == (made / path.name).read_text().replace("\n\n", "\n")
        assert same, f"{path.name} is out of date: make client-models"


def test_what_a_newer_service_adds_does_no_harm() -> None:
    event = {"id": 3, "type": "paused", "data": {"by": "operator"}, "created_at": "2026-11-28T12:00:00Z"}
    page = TypeAdapter(qpruner_client.models.EventPage).validate_python(
        {"events": [event, event | {"type": "warning", "data": {"message": "m", "new": 1}}], "next_after": None, "x": 1}
    )
    unknown, known = (one.root for one in page.events)
    assert isinstance(unknown, qpruner_client.models.OtherEvent)
    assert unknown.data == {"by": "operator"}
    assert isinstance(known, qpruner_client.models.WarningEvent)
    assert known.data.model_extra == {"new": 1}
