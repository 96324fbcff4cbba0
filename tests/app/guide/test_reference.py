"""The reference pages are those of today's code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import qpruner_core
from app.guide.reference import NOTE, PAGES
from app.guide.reference.http import description
from app.settings import Settings
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.presets import PRESETS
from qpruner_core.run_settings import run_settings

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "reference"
NO_FAILURES = {"worker_stopped"}
"""Codes of attempts that do not count."""


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return {name: render() for name, render in PAGES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_the_code_makes_it(name: str, rendered: dict[str, str]) -> None:
    expected = NOTE + rendered[name].rstrip() + "\n"
    assert (REFERENCE / name).read_text() == expected, "run `make reference`"


def test_a_page_is_the_same_each_time(rendered: dict[str, str]) -> None:
    assert {name: render() for name, render in PAGES.items()} == rendered
    assert [name for name, page in rendered.items() if " at 0x" in page] == []


def test_every_setting_of_a_job_has_a_row_with_a_meaning() -> None:
    page = (REFERENCE / "job-settings.md").read_text()
    for section, field in CompressionConfig.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        names = [f"{section}.{name}" for name in nested] if nested else [section]
        for name in names:
            if name != "fit":  # a section of its own
                [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
                assert row.rsplit("|", 2)[1].strip(), f"{name} has no description"


def test_every_setting_of_the_service_has_a_row_with_a_meaning() -> None:
    page = (REFERENCE / "service-settings.md").read_text()
    for name in Settings.model_fields:
        [row] = [line for line in page.splitlines() if line.startswith(f"| `QPRUNER_{name.upper()}` |")]
        assert row.rsplit("|", 2)[1].strip(), f"{name} has no description"


def test_every_preset_is_listed() -> None:
    page = (REFERENCE / "job-settings.md").read_text()
    assert [name for name in PRESETS if f"| `{name}` |" not in page] == []


@pytest.fixture(scope="module")
def errors(rendered: dict[str, str]) -> dict[str, str]:
    """The sections of the page of errors by their codes."""
    parts = re.split(r"\n## `(\w+)`\n", rendered["errors.md"])
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    ("code", "marks"),
    [
        ("artifact_not_found", "HTTP 404"), ("budget_infeasible", "HTTP 422, exit code 2"),
        ("database_unavailable", "HTTP 503, exit code 3"), ("dataset_not_found", "HTTP 404, 422, exit code 2"),
        ("internal", "HTTP 500, exit code 1"), ("key_not_found", "HTTP 404, exit code 2"),
        ("method_not_allowed", "HTTP 405"), ("model_gated", "HTTP 422, exit code 2"),
        ("model_not_found", "HTTP 404, 422, exit code 2"), ("port_in_use", "exit code 2"), ("queue_full", "HTTP 429"),
        ("store_unavailable", "HTTP 503, exit code 3"),
    ],
)  # fmt: skip
def test_an_error_is_listed_with_its_statuses(code: str, marks: str, errors: dict[str, str]) -> None:
    assert f" *{marks}*\n" in errors[code]


def test_every_error_has_a_meaning_and_remedies_in_words(errors: dict[str, str]) -> None:
    for code, section in errors.items():
        meaning, *remedies = [line for line in section.splitlines() if line]
        assert re.fullmatch(r"\W*\w.* \*[\w, ]+\*", meaning), code
        assert all(re.fullmatch(r"- .*[A-Za-z]{3}.*", line) for line in remedies), code


def test_every_error_that_an_operation_declares_is_listed_with_its_status(errors: dict[str, str]) -> None:
    for path, operations in description()["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                for code in re.findall(r"`(\w+)`", answer["description"]) if status.startswith(("4", "5")) else ():
                    assert re.search(rf"\*HTTP [\d, ]*{status}\b", errors[code]), (path, code)


def test_every_error_that_fails_a_job_is_listed(errors: dict[str, str]) -> None:
    """Found by their spelling, not by the means of the page."""
    files = [path for folder in ("app/jobs", "worker") for path in (ROOT / folder).rglob("*.py")]
    sources = "\n".join(path.read_text() for path in files)
    found = set(re.findall(r'(?:"code":|\bcode=|\bBreach\(|\bRunError\()\s*"(\w+)"', sources)) - NO_FAILURES
    assert found >= {"attempts_exhausted", "deadline_exceeded", "memory_exceeded", "stalled", "worker_crashed"}
    assert [code for code in sorted(found) if "*failed job*" not in errors.get(code, "")] == []


def test_a_body_without_a_name_has_no_parentheses(rendered: dict[str, str]) -> None:
    assert (
        "Body: `multipart/form-data`, `application/octet-stream`, `application/json` (`DatasetRequest`)"
        in (rendered["http.md"])
    )
    assert "()" not in rendered["http.md"]


def test_parameters_that_must_be_named_follow_an_asterisk(rendered: dict[str, str]) -> None:
    for name in qpruner_core.__all__:
        one = getattr(qpruner_core, name)
        if inspect.isfunction(one):
            section = rendered["python.md"].split(f"## `{name}`\n")[1].split("\n```\n")[0]
            kinds = {parameter.kind for parameter in inspect.signature(one).parameters.values()}
            assert ("\n    *,\n" in section) is (inspect.Parameter.KEYWORD_ONLY in kinds), name


def test_a_preset_is_written_as_the_command_line_takes_it(rendered: dict[str, str]) -> None:
    base = {"model": "m", "dataset": "d", "memory_budget": 10**6}
    for name in PRESETS:
        [row] = [line for line in rendered["job-settings.md"].splitlines() if line.startswith(f"| `{name}` | ")]
        named = run_settings(None, {**base, "preset": name}, re.findall(r"`([\w.]+=[^`]+)`", row))
        assert parse_config(named) == parse_config({**base, "preset": name}), name
