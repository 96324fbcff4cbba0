"""No view has a serious finding of axe, in either colour scheme, on a desk or on a phone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app.settings import Settings
from tests.app import seeded_jobs as seed
from tests.app.live_service import Service, run_service

pytestmark = pytest.mark.service
SERIOUS = ("serious", "critical")
COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules of axe that depend on the colour scheme."""


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, dict[str, str]]]:
    """A service with a job in every state, and the ids of these by name."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("page") / "data", poll_seconds=0.1, _env_file=None)
    for service in run_service(settings):
        with service.app.state.session_factory.begin() as session:
            store = service.app.state.store
            jobs = {
                "queued": seed.add_job(session, "queued"), "running": seed.add_running_job(session),
                "failed": seed.add_failed_job(session),
                "finished": seed.add_finished_job(session, store, b"x", "0" * 64),
                "modules": seed.add_finished_job(session, store, b"x", "0" * 64, seed.group_names("module", head=True)),
            }  # fmt: skip
            jobs["modules"].labels = {"team": "search"}
            ids = {name: job.id for name, job in jobs.items()}
        yield service, ids


VIEWS = {
    "home": "/", "found nothing": "/#/?q=nothing", "copy": "/#/?copy={modules}", "queued": "/#/jobs/{queued}",
    "running": "/#/jobs/{running}", "failed": "/#/jobs/{failed}", "finished": "/#/jobs/{finished}",
    "modules": "/#/jobs/{modules}", "choose": "/#/compare/{finished}", "compare": "/#/compare/{finished}/{modules}",
    "manage": "/#/manage", "no page": "/#/nowhere", "docs": "/docs",
}  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(view: str, page: Page, seeded: tuple[Service, dict[str, str]]) -> None:
    service, ids = seeded
    for width, height in ((1280, 900), (390, 844)):
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": height})
        page.goto("about:blank")
        page.goto(service.url + VIEWS[view].format(**ids))
        open_everything(page, view)
        assert serious(page) == []
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        assert serious(page, COLOURS) == []


def test_axe_finds_nothing_serious_in_a_form_with_faults_or_in_a_dialog(
    page: Page, seeded: tuple[Service, dict[str, str]]
) -> None:
    service, ids = seeded
    page.goto(service.url)
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page.locator("[data-field=dataset] .field-error")).to_be_visible()
    assert serious(page) == []
    page.goto(f"{service.url}/#/jobs/{ids['failed']}")
    page.get_by_role("button", name="Delete").click()
    assert serious(page) == []


def open_everything(page: Page, view: str) -> None:
    """Wait until the view is there, and open what is folded."""
    if view == "docs":
        page.locator(".opblock").first.wait_for()
        page.locator(".opblock-summary-control").nth(1).click()
        page.locator(".opblock.is-open").wait_for()
        return
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_load_state("networkidle") if view in ("manage", "copy") else None
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")


def serious(page: Page, only: list[str] | None = None) -> list[str]:
    """The rule and the first place of each finding that matters, of all rules or of those in ``only``."""
    rules = {} if only is None else {"runOnly": {"type": "rule", "values": only}}
    found = Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['target']}" for one in found if one["impact"] in SERIOUS]
