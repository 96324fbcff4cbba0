"""What the page is made of, and how it is served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.page.endpoints import STATIC
from app.settings import Settings

FILES = sorted(path.name for path in STATIC.iterdir())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("data"), _env_file=None))
    return TestClient(app, base_url="http://127.0.0.1")


def test_the_page_is_at_the_root_and_needs_no_key(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>QPruner</title>" in answer.text
    assert client.head("/").status_code == 200


@pytest.mark.parametrize("name", FILES)
def test_every_file_comes_with_its_type_and_a_strict_policy(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{name}")
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    assert answer.headers["content-type"].startswith(kinds[Path(name).suffix])
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name", ["..%2Fendpoints.py", "%2e%2e%2fendpoints.py", "nothing.js", ".", "..%2f..%2fsettings.py"]
)
def test_a_name_that_is_no_file_of_the_page_is_refused(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def _sources() -> Iterator[tuple[str, str]]:
    for name in FILES:
        yield name, (STATIC / name).read_text()


def test_text_never_becomes_markup_and_nothing_comes_from_elsewhere() -> None:
    for name, text in _sources():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
        outside = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert outside == set(), name


def test_the_document_has_no_script_or_style_of_its_own() -> None:
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert not re.search(r"<style|\bstyle=|\bon\w+=", html)


def test_every_import_is_a_file_of_the_page() -> None:
    for name, text in _sources():
        for target in re.findall(r'from "\./([^"]+)"', text):
            assert target in FILES, f"{name} imports {target}"
