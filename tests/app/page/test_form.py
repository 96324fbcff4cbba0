"""The form: what is wrong is said at its field and all at once, an estimate needs no dataset, a job can be copied."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.jobs.models import Job
from tests.app import seeded_jobs as seed
from tests.app.live_service import Service
from tests.tiny_model import build_tiny_llama, write_text_dataset

pytestmark = pytest.mark.service
SLOWLY = 60_000
"""Milliseconds for a first look at a model."""


@pytest.fixture
def model(service: Service, tmp_path: Path) -> Path:
    """A model that the service may read."""
    service.app.state.settings.allowed_roots = (tmp_path,)
    return build_tiny_llama(tmp_path / "tiny", train_steps=0)


def name_dataset(page: Page, name: str) -> None:
    page.get_by_text("Upload id, hub id or path").first.click()
    page.locator("#field-dataset").fill(name)


def faults(page: Page) -> dict[str, str]:
    """What is said at each field that is marked."""
    marked = page.locator("[data-field]:has(.field-error:visible)").all()
    return {node.get_attribute("data-field") or "": node.locator(".field-error").inner_text() for node in marked}


def test_an_empty_form_is_marked_at_everything_that_it_needs(page: Page, service: Service) -> None:
    page.goto(service.url)
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page.locator("[data-field=dataset] .field-error")).to_have_text("Choose a file to upload.")
    assert faults(page).keys() == {"model", "dataset", "memory_budget"}
    expect(page.get_by_label("Model", exact=True)).to_be_focused()
    expect(page.get_by_label("Model", exact=True)).to_have_attribute("aria-invalid", "true")


def test_what_the_page_sees_and_what_the_service_finds_is_marked_at_once(
    page: Page, service: Service, model: Path
) -> None:
    page.goto(service.url)
    page.get_by_label("Model", exact=True).fill(str(model.parent / "nothing"))
    page.get_by_label("Memory budget").fill("lots")
    page.get_by_text("More settings").click()
    page.get_by_label("Search trials").fill("0")
    page.get_by_label("Prune ratio").fill("3")
    page.get_by_text("More settings").click()
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page.locator("[data-field='prune.ratio'] .field-error")).to_be_visible(timeout=SLOWLY)
    found = faults(page)
    assert found.keys() == {"model", "dataset", "memory_budget", "allocate.trials", "prune.ratio"}
    assert found["allocate.trials"] == "It is too small. Give 1 or more."
    expect(page.locator("#job-form > .alert")).to_be_hidden()


def test_messages_speak_of_the_page_and_not_of_requests(page: Page, service: Service, model: Path) -> None:
    page.goto(service.url)
    page.get_by_label("Model", exact=True).fill(str(model))
    name_dataset(page, "ds_gone")
    page.get_by_label("Memory budget").fill("1kB")
    page.get_by_role("button", name="Compress", exact=True).click()
    at_dataset = page.locator("[data-field=dataset] .field-error")
    expect(at_dataset).to_have_text(re.compile("There is no dataset .*Choose a file"), timeout=SLOWLY)
    expect(page.locator("[data-field=memory_budget] .field-error")).to_be_visible()
    assert not re.search(r"POST|GET|/docs|_", " ".join(faults(page).values()).replace("ds_gone", ""))


def test_an_estimate_needs_no_dataset(page: Page, service: Service, model: Path) -> None:
    page.goto(service.url)
    page.get_by_label("Model", exact=True).fill(str(model))
    page.get_by_label("Memory budget").fill("400kB")
    page.get_by_label("Target").select_option("bitsandbytes")
    page.get_by_role("button", name="Estimate").click()
    expect(page.get_by_text("Fits the budget")).to_be_visible(timeout=SLOWLY)
    expect(page.locator("#estimate")).to_contain_text("Predicted bytes assume the lowest precision")
    expect(page.locator("#estimate")).not_to_contain_text("_")


def test_a_job_is_duplicated_with_every_setting_and_edited(page: Page, service: Service, model: Path) -> None:
    dataset = write_text_dataset(model.parent / "prose.txt")
    body = {
        "model": str(model), "dataset": str(dataset), "memory_budget": 400_000, "target": "bitsandbytes",
        "sequence_length": 32, "prune": {"ratio": 0.1, "criterion": "wanda"}, "labels": {"team": "search"},
        "evaluate": {"max_tokens": 2048},
    }  # fmt: skip
    answer = page.request.post(f"{service.url}/jobs", data=body, timeout=SLOWLY)
    assert answer.status == 202, answer.text()
    first = answer.json()["id"]
    page.goto(f"{service.url}/#/jobs/{first}")
    page.get_by_role("link", name="Duplicate").click()
    expect(page.get_by_label("Model", exact=True)).to_have_value(str(model))
    expect(page.get_by_label("Memory budget")).to_have_value("400kB")
    expect(page.get_by_label("Prune criterion")).to_have_value("wanda")
    expect(page.get_by_label("Prune layout")).to_have_value("")
    expect(page.get_by_label("Labels")).to_have_value("team:search")
    page.get_by_label("Prune ratio").fill("0.05")
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page).to_have_url(re.compile(f"#/jobs/job_(?!{first[4:]})"), timeout=SLOWLY)
    second = page.url.rpartition("/")[2]
    with service.app.state.session_factory() as session:
        old, new = (session.get_one(Job, one) for one in (first, second))
        assert new.config == {**old.config, "prune": {**old.config["prune"], "ratio": 0.05}}
        assert new.labels == {"team": "search"}


def test_settings_without_a_field_are_written_as_json(page: Page, service: Service, model: Path) -> None:
    page.goto(service.url)
    page.get_by_text("More settings").click()
    other = page.get_by_label("Other settings")
    page.get_by_label("Model", exact=True).fill(str(model))
    page.get_by_label("Memory budget").fill("400kB")
    other.fill("{evaluate")
    page.get_by_role("button", name="Estimate").click()
    expect(page.locator("[data-field=other] .field-error")).to_contain_text("Not a JSON object.")
    other.fill('{"evaluate": {"max_token": 5}}')
    page.get_by_role("button", name="Estimate").click()
    expect(page.locator("[data-field=other] .field-error")).to_contain_text("did you mean `evaluate.max_tokens`?")


def test_the_copy_of_a_job_that_is_gone_says_so(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        seed.add_running_job(session)
    page.goto(f"{service.url}/#/?copy=job_01k9t4ae5xfz3v2s6q0m8y1d7c")
    expect(page.locator("#job-form > .alert")).to_have_text("There is no such job. It may have been deleted.")
