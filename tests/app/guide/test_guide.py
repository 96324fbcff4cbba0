"""The documentation site builds without a warning, and the service serves it without the internet."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from app.guide.files import GuideFiles
from app.problems import install_problem_handlers

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a broken link or anchor fails."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    zensical = Path(sys.executable).parent / "zensical"
    built = subprocess.run([zensical, "build", "--strict"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "app" / "guide" / "site"


def test_every_page_is_served(site: Path) -> None:
    client = TestClient(Starlette(routes=[Mount("/guide", GuideFiles(site))]))
    pages = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text())
    assert len(pages) > 20
    for page in pages:
        path = page.removesuffix("index.md").removesuffix(".md")
        response = client.get(f"/guide/{path}/" if path else "/guide/")
        assert response.status_code == 200, page
        assert "Content-Security-Policy" in response.headers


def test_every_document_is_in_the_navigation() -> None:
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert there == listed


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*?(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert [url for url in loaded if "canonical" not in url] == [], page


def test_a_site_that_is_not_built_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    app = FastAPI()
    app.mount("/guide", GuideFiles(tmp_path))
    install_problem_handlers(app)
    problem = TestClient(app).get("/guide/").json()
    assert problem["code"] == "guide_not_built"
    assert "make docs" in problem["remedy"]
