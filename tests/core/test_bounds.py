"""Every number of a request or a setting has bounds, and so has every product of them that means work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.jobs.schemas import JobRequest
from app.settings import Settings
from qpruner_core import CompressionConfig, parse_config
from qpruner_core.errors import InvalidConfigError
from qpruner_core.presets import PRESETS
from qpruner_core.run_settings import _setting
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.workload import MOST_TOKENS_OF_A_STAGE, refuse_too_much_work

RUN = {"model": "m", "dataset": "d", "target": "bitsandbytes", "memory_budget": "1MB"}
MODELS: list[type[BaseModel]] = [CompressionConfig, JobRequest, Settings, SourcePolicy]
Schema = dict[str, Any]


def leaves(schema: Schema, definitions: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Every part of a JSON schema that has no parts of its own, with where it is."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    parts = {
        **schema.get("properties", {}),
        **{f"[{index}]": part for index, part in enumerate(schema.get("prefixItems", []))},
    }
    for key in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(key), dict):
            parts[f"[{key}]"] = schema[key]
    options = [option for key in ("anyOf", "oneOf", "allOf") for option in schema.get(key, [])]
    for option in options:
        yield from leaves(option, definitions, path)
    for name, part in parts.items():
        yield from leaves(part, definitions, (*path, name))
    if not options:
        yield path, schema


def leaves_of(model: type[BaseModel]) -> list[tuple[tuple[str, ...], Schema]]:
    schema = model.model_json_schema(mode="serialization")
    return list(leaves(schema, schema.get("$defs", {})))


def is_bounded(schema: Schema) -> bool:
    """Whether a value of ``schema`` can only be so large."""
    if "enum" in schema or "const" in schema:
        return True
    match schema.get("type"):
        case "integer" | "number":
            return bool(
                {"minimum", "exclusiveMinimum"} & schema.keys() and {"maximum", "exclusiveMaximum"} & schema.keys()
            )
        case "string":
            return "maxLength" in schema or "pattern" in schema or schema.get("format") == "date"
        case "array":
            return "maxItems" in schema
        case "object":
            return schema.get("additionalProperties") is False or "maxProperties" in schema
    return schema.get("type") in ("boolean", "null")


@pytest.mark.parametrize("model", [CompressionConfig, JobRequest])
def test_every_value_of_a_request_is_bounded(model: type[BaseModel]) -> None:
    found = leaves_of(model)
    assert len(found) > 60
    assert [path for path, schema in found if not is_bounded(schema)] == []


@pytest.mark.parametrize("model", [Settings, SourcePolicy])
def test_every_number_of_the_operators_settings_is_bounded(model: type[BaseModel]) -> None:
    numbers = [leaf for leaf in leaves_of(model) if leaf[1].get("type") in ("integer", "number")]
    assert len(numbers) >= 2
    assert [path for path, schema in numbers if not is_bounded(schema)] == []


NUMBERS = [
    path
    for path, schema in leaves_of(CompressionConfig)
    if schema.get("type") in ("integer", "number") and "enum" not in schema
]
SIZES = (("memory_budget",), ("fit", "memory"), ("export", "max_shard_size"))


def nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def asked(path: tuple[str, ...], value: object) -> dict[str, Any]:
    """A run with one setting at ``value``; it has one budget."""
    found = nested(path, value)
    if path[0] != "fit":
        return RUN | found
    return {name: one for name, one in RUN.items() if name != "memory_budget"} | {
        "fit": {"memory": "1GB"} | found["fit"]
    }


@pytest.mark.parametrize("path", NUMBERS, ids=".".join)
def test_a_number_that_no_machine_can_serve_is_refused_by_name(path: tuple[str, ...]) -> None:
    large = 10**19 if path in SIZES else 10**12
    for value in (10**30, large, -large, float("nan"), float("inf"), -float("inf"), 10**400):
        with pytest.raises(InvalidConfigError) as caught:
            parse_config(asked(path, value))
        assert caught.value.field is not None
        assert caught.value.field.startswith(".".join(path))
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", [path[0] for path, schema in leaves_of(Settings) if schema.get("type") == "number"])
def test_an_operators_number_is_finite(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("nan", "inf", "1e30", "-1"):
        monkeypatch.setenv(f"QPRUNER_{name.upper()}", text)
        with pytest.raises(ValidationError):
            Settings()


@pytest.mark.parametrize("settings", [
    {"finetune": {"batch_size": 1024, "gradient_accumulation": 4096, "steps": 10**6}},
    {"finetune": {"batch_size": 1024}, "sequence_length": 131072},
    {"finetune": {"steps": 10**6, "gradient_accumulation": 4096}},
    {"finetune": {"steps": 10**6, "evaluate_every": 1, "validation_sequences": 16384}},
    {"allocate": {"trials": 2000, "calibration_sequences": 16384}, "sequence_length": 131072},
    {"allocate": {"front_points": 100, "trials": 1000, "calibration_sequences": 16384}, "sequence_length": 65536},
    {"allocate": {"finalists": 100, "recovery_steps": 10_000}, "finetune": {"gradient_accumulation": 1024}},
    {"preset": "qpruner3", "allocate": {"trials": 2000, "recovery_steps": 10_000}, "finetune": {"batch_size": 64}},
    {"score": {"calibration_sequences": 16384, "fisher_samples": 1024}, "sequence_length": 131072},
    {"prune": {"steps": 100, "calibration_sequences": 16384}, "sequence_length": 131072},
], ids=str)  # fmt: skip
def test_settings_that_are_too_much_together_are_refused_by_name(settings: dict[str, Any]) -> None:
    config = parse_config(RUN | settings)
    with pytest.raises(InvalidConfigError) as caught:
        refuse_too_much_work(config)
    stage, name = str(caught.value.field).split(".")
    assert name in type(getattr(config, stage)).model_fields
    assert caught.value.remedy


@pytest.mark.parametrize("preset", PRESETS)
def test_what_people_do_is_far_from_too_much(preset: str) -> None:
    large: dict[str, Any] = {
        "preset": preset, "sequence_length": 4096, "allocate": {"trials": 200},
        "finetune": {"steps": 10_000, "batch_size": 8, "gradient_accumulation": 16},
    }  # fmt: skip
    refuse_too_much_work(parse_config(RUN | large))
    refuse_too_much_work(parse_config(RUN | {"sequence_length": 131072, "preset": preset}))
    assert MOST_TOKENS_OF_A_STAGE > 10 * 10_000 * 8 * 16 * 4096


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 10**5, "1e999", "NaN"])
def test_a_setting_of_the_command_line_that_json_cannot_hold_is_refused_by_name(value: str) -> None:
    path, parsed = _setting(f"finetune.steps={value}")
    with pytest.raises(InvalidConfigError) as caught:
        parse_config(RUN | nested(tuple(path.split(".")), parsed))
    assert caught.value.field == "finetune.steps"


def test_bounds_are_shown_where_settings_are_described() -> None:
    described = json.dumps(CompressionConfig.model_json_schema())
    assert '"maximum": 1000000' in described


def numbers_of(model: type[BaseModel]) -> list[tuple[str, ...]]:
    """The paths of the settings that take a number and no boolean."""
    kinds: dict[tuple[str, ...], set[str]] = {}
    for path, schema in leaves_of(model):
        kinds.setdefault(path, set()).add(schema.get("type", ""))
    return [path for path, types in kinds.items() if types & {"integer", "number"} and "boolean" not in types]


@pytest.mark.parametrize("path", numbers_of(JobRequest), ids=".".join)
def test_a_boolean_is_no_number(path: tuple[str, ...]) -> None:
    value: Any = True
    for name in reversed(path):
        value = [value] if name.startswith("[") else {name: value}
    with pytest.raises(ValidationError) as refused:
        JobRequest.model_validate(RUN | value)
    assert any("number" in error["msg"] and error["loc"][0] == path[0] for error in refused.value.errors())


@pytest.mark.parametrize("path", sorted({path for path, _ in leaves_of(JobRequest) if path}), ids=".".join)
def test_a_fault_is_reported_under_the_name_of_its_setting(path: tuple[str, ...]) -> None:
    names = {name for known, _ in leaves_of(JobRequest) for name in known} | set(JobRequest.model_fields)
    for garbage in ("", {}, [], -1.5):
        value: Any = garbage
        for name in reversed(path):
            value = [value] if name.startswith("[") else {name: value}
        assert {part for part in faulty_parts(RUN | value) if isinstance(part, str)} <= names


def faulty_parts(request: dict[str, Any]) -> set[int | str]:
    try:
        JobRequest.model_validate(request)
    except ValidationError as error:
        return {part for fault in error.errors() for part in fault["loc"]}
    return set()
