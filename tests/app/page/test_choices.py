"""Settings that the form lets one choose from, in a real browser, on the real service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from playwright.sync_api import Page, expect

from app.jobs.models import Job
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.presets import PresetName
from qpruner_core.prune.config import CriterionName, LayoutName, PruneConfig
from qpruner_core.targets.config import RunsOn, TargetName
from tests.app.live_service import Service
from tests.tiny_model import build_tiny_llama, write_text_dataset

pytestmark = pytest.mark.service


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("target", TargetName),
        ("runs_on", RunsOn),
        ("preset", PresetName),
        ("prune.criterion", CriterionName),
        ("prune.layout", LayoutName),
        ("allocate.granularity", AllocateConfig.model_fields["granularity"].annotation),
        ("finetune.loss", FinetuneConfig.model_fields["loss"].annotation),
    ],
)
def test_the_form_offers_exactly_what_the_service_allows(
    setting: str, allowed: object, page: Page, service: Service
) -> None:
    page.goto(service.url)
    options = page.locator(f"#field-{setting.replace('.', '-')} option")
    expect(options.first).to_have_text("default")
    values = [option.get_attribute("value") for option in options.all()]
    assert values == ["", *get_args(allowed)]


def test_what_is_chosen_is_what_the_job_runs_with_and_nothing_chosen_is_the_default(
    page: Page, service: Service, tmp_path: Path
) -> None:
    model = build_tiny_llama(tmp_path / "tiny", train_steps=0)
    dataset = write_text_dataset(tmp_path / "prose.txt")
    service.app.state.settings.allowed_roots = (tmp_path,)
    stages: dict[str, dict[str, Any]] = {
        "prune": PruneConfig().model_dump(),
        "allocate": AllocateConfig().model_dump(mode="json"),
        "finetune": FinetuneConfig().model_dump(),
    }
    chosen = {
        "prune.criterion": "wanda",
        "prune.layout": "stock",
        "allocate.granularity": "module",
        "finetune.loss": "cross_entropy",
    }
    by_default = submitted(page, service, model, dataset, {})
    assert {stage: by_default[stage] for stage in stages} == stages
    for path, value in chosen.items():
        stage, _, setting = path.partition(".")
        assert stages[stage][setting] != value
        stages[stage][setting] = value
    as_chosen = submitted(page, service, model, dataset, chosen)
    assert {stage: as_chosen[stage] for stage in stages} == stages


def submitted(page: Page, service: Service, model: Path, dataset: Path, chosen: dict[str, str]) -> dict[str, Any]:
    """Fill in the form and submit it; the settings of the job that this makes."""
    page.goto(service.url)
    page.reload()  # from the page of an earlier job, too, the form is an empty one
    page.get_by_label("Model", exact=True).fill(str(model))
    page.get_by_text("Upload id, hub id or path").first.click()
    page.locator("#field-dataset").fill(str(dataset))
    page.get_by_label("Memory budget").fill("300kB")
    page.get_by_text("More settings").click()
    for setting, value in chosen.items():
        page.locator(f"#field-{setting.replace('.', '-')}").select_option(value)
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page).to_have_url(re.compile("#/jobs/job_"), timeout=60_000)
    with service.app.state.session_factory() as session:
        config: dict[str, Any] = session.get_one(Job, page.url.rpartition("/")[2]).config
    return config
