"""Jobs are searched on the page by what the address says, and every page of them can be reached."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from app.database import utc_now
from tests.app import seeded_jobs as seed
from tests.app.live_service import Service

pytestmark = pytest.mark.service


def names(page: Page) -> list[str]:
    return page.locator(".job-model").all_inner_texts()


def test_jobs_are_found_by_model_label_id_status_and_day(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        llama = seed.add_job(session, "succeeded", model="org/Llama-3")
        llama.labels, llama.created_at = {"team": "search"}, utc_now() - timedelta(days=10)
        llama_id = llama.id
        seed.add_job(session, "queued", model="org/Qwen-3")
    page.goto(service.url)
    rows = page.locator(".job-model")
    search = page.get_by_role("searchbox", name="Search jobs")
    expect(rows).to_have_text(["Qwen-3", "Llama-3"])
    for text in ("llama", "team:search", llama_id[10:]):
        search.fill(text)
        expect(rows).to_have_text(["Llama-3"])
    search.fill("nothing of it")
    expect(page.get_by_text("No job matches.")).to_be_visible()
    search.fill("")
    page.get_by_label("Show jobs of this status").select_option("queued")
    expect(rows).to_have_text(["Qwen-3"])
    page.get_by_label("Show jobs of this status").select_option("")
    page.get_by_text("Dates").click()
    page.get_by_label("To", exact=True).fill(f"{utc_now() - timedelta(days=5):%Y-%m-%d}")
    expect(rows).to_have_text(["Llama-3"])
    page.reload()  # the address has it all
    expect(rows).to_have_text(["Llama-3"])
    page.get_by_label("From", exact=True).fill(f"{utc_now() - timedelta(days=7):%Y-%m-%d}")
    expect(page.get_by_text("No job matches.")).to_be_visible()


def test_every_page_is_reached_there_and_back_without_losing_what_is_typed(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        for number in range(130):
            seed.add_job(session, "succeeded", model=f"org/m{number}")
    page.goto(service.url)
    page.get_by_label("Model", exact=True).fill("org/typed")
    seen: list[str] = []
    for number in range(1, 8):
        expect(page.locator(".job-model").first).to_have_text(f"m{129 - 20 * (number - 1)}")
        seen += names(page)
        if number < 7:
            page.get_by_role("link", name="Older").click()
            expect(page.get_by_text(f"Page {number + 1}", exact=True)).to_be_visible()
    assert seen == [f"m{number}" for number in reversed(range(130))]
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
    page.get_by_role("link", name="Newer").click()
    expect(page.get_by_text("Page 6", exact=True)).to_be_visible()
    expect(page.locator(".job-model").first).to_have_text("m29")
    page.go_back()
    expect(page.locator(".job-model").first).to_have_text("m9")
    expect(page.get_by_label("Model", exact=True)).to_have_value("org/typed")
    page.get_by_role("searchbox").fill("org/m12")
    expect(page.locator(".job-model")).to_have_count(11)  # m129 to m120, and m12


def test_a_label_of_a_job_leads_to_all_that_have_it(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        jobs = [seed.add_job(session, "succeeded", model=f"org/{name}") for name in "abc"]
        for job in jobs[:2]:
            job.labels = {"team": "R&D"}
        first = jobs[0].id
    page.goto(f"{service.url}/#/jobs/{first}")
    page.get_by_role("link", name="team:R&D").click()
    expect(page.locator(".job-model")).to_have_text(["b", "a"])
    expect(page).to_have_url(re.compile("q=team%3AR%26D"))
