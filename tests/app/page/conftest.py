"""The service, and a browser in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from app.settings import Settings
from tests.app.live_service import Service, run_service

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that asks for no key."""
    yield from run_service(Settings(data_dir=tmp_path / "data", poll_seconds=0.1, _env_file=None))


@pytest.fixture
def keyed_service(tmp_path: Path) -> Iterator[Service]:
    """A service that asks for a key."""
    yield from run_service(Settings(data_dir=tmp_path / "data", require_key=True, _env_file=None))


@pytest.fixture(scope="package")  # while Playwright is open its event loop runs in this thread: no test can run another
def browser() -> Iterator[Browser]:
    """Chromium: the system's, else Playwright's own."""
    with sync_playwright() as playwright:
        yield _launch(playwright)


def _launch(playwright: Playwright) -> Browser:
    if CHROMIUM.exists():
        return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    try:
        return playwright.chromium.launch(args=FLAGS)
    except PlaywrightError:
        pytest.skip("no Chromium: neither /usr/bin/chromium nor `playwright install chromium`")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab that fails the test on any script error, blocked resource or request to another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(10_000)
    tab = context.new_page()
    troubles: list[str] = []
    tab.on("pageerror", lambda error: troubles.append(f"script error: {error}"))
    tab.on("console", lambda line: troubles.append(line.text) if "Content Security Policy" in line.text else None)
    tab.on("request", lambda request: troubles.append(request.url) if not _is_local(request.url) else None)
    yield tab
    context.close()
    assert troubles == []


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))
