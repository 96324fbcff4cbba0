"""The reference pages are those of today's code."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.guide.reference import NOTE, PAGES
from app.settings import Settings
from qpruner_core.config import CompressionConfig
from qpruner_core.presets import PRESETS

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"


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


@pytest.mark.parametrize("code", ["budget_infeasible", "model_gated", "queue_full", "artifact_not_found", "internal"])
def test_error_codes_of_core_and_http_are_listed_with_their_status(code: str) -> None:
    page = (REFERENCE / "errors.md").read_text()
    section = page.split(f"## `{code}`\n")[1].split("\n## ")[0]
    assert "HTTP " in section
