"""Two jobs side by side."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app import seeded_jobs as seed
from tests.app.live_service import Service

pytestmark = pytest.mark.service


def row(page: Page, name: str) -> list[str]:
    found = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))
    return found.locator("td").all_inner_texts()


def test_a_job_is_compared_with_another_that_is_searched_for(page: Page, service: Service) -> None:
    store = service.app.state.store
    with service.app.state.session_factory.begin() as session:
        first = seed.add_finished_job(session, store, b"x", "0" * 64)
        second = seed.add_finished_job(session, store, b"x", "0" * 64)
        second.model = "org/other"
        rows = [dict(one) for one in (second.result or {})["measurements"]]
        rows[-1] |= {"perplexity": 33.0, "top1_agreement": 0.79}
        second.result = {**(second.result or {}), "measurements": rows}
        second.config = {**second.config, "prune": {**second.config["prune"], "ratio": 0.25}}
        ids = first.id, second.id
    page.goto(f"{service.url}/#/jobs/{ids[0]}")
    page.get_by_role("link", name="Compare").click()
    expect(page.locator(".job-row")).to_have_count(1)  # not with itself
    page.get_by_role("searchbox").fill("other")
    page.get_by_role("link", name=re.compile("other")).click()
    expect(page).to_have_url(re.compile(f"#/compare/{ids[0]}/{ids[1]}"))
    expect(page.get_by_role("heading", name="Compare two jobs")).to_be_visible()
    assert row(page, "Perplexity, held-out") == ["29.70", "33.00", "+11 %"]
    assert row(page, "Same top-1") == ["81.0 %", "79.0 %", "−2.0 points"]
    assert row(page, "Memory when loaded") == ["128.4 MB", "128.4 MB", "±0 %"]
    assert row(page, "prune.ratio") == ["–", "0.25"]
    assert row(page, "seed") == []  # which is the same
    expect(page.locator(".heat")).to_have_count(2)
    page.get_by_role("link", name="Swap").click()
    expect(page.get_by_role("row").filter(has_text="prune.ratio").locator("td").first).to_have_text("0.25")


def test_jobs_without_a_result_are_compared_by_their_settings_and_stages(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        ids = seed.add_running_job(session).id, seed.add_failed_job(session).id
    page.goto(f"{service.url}/#/compare/{ids[0]}/{ids[1]}")
    expect(page.get_by_text("Neither job has a result yet.")).to_be_visible()
    assert row(page, "prune") == ["4.2 s", "4.2 s"]
    assert row(page, "quantize") == ["–", "43 s"]


def test_a_job_that_is_gone_cannot_be_compared(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        job = seed.add_running_job(session).id
    page.goto(f"{service.url}/#/compare/{job}/job_01k9t4ae5xfz3v2s6q0m8y1d7c")
    expect(page.get_by_text("There is no such job. It may have been deleted.")).to_be_visible()
