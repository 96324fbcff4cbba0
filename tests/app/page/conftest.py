"""The service in a thread, a browser in front of it, and jobs in its database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, Playwright, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from app.main import create_app
from app.migrate import upgrade
from app.settings import Settings

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@dataclass(frozen=True)
class Service:
    """A running service: its address and its application, whose state tests write jobs through."""

    url: str
    app: FastAPI


def run_service(settings: Settings) -> Iterator[Service]:
    """Serve ``settings`` on a free port until the generator is closed."""
    upgrade(settings.resolved_database_url)
    app = create_app(settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Service(f"http://127.0.0.1:{port}", app)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that asks for no key."""
    yield from run_service(Settings(data_dir=tmp_path / "data", poll_seconds=0.1, _env_file=None))


@pytest.fixture
def keyed_service(tmp_path: Path) -> Iterator[Service]:
    """A service that asks for a key."""
    yield from run_service(Settings(data_dir=tmp_path / "data", require_key=True, _env_file=None))


@pytest.fixture(scope="session")
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
