"""Reference pages generated from the code: one module per page, each with ``render() -> str`` in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.guide.reference import command_line, errors, http, job_settings, python, service_settings

NOTE = "<!-- Made from the code by `python -m app.guide.reference`; do not edit. -->\n\n"
PAGES: dict[str, Callable[[], str]] = {
    "job-settings.md": job_settings.render,
    "service-settings.md": service_settings.render,
    "command-line.md": command_line.render,
    "python.md": python.render,
    "http.md": http.render,
    "errors.md": errors.render,
}


def write_pages(directory: Path) -> None:
    """Write every page of the reference into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, render in PAGES.items():
        (directory / name).write_text(NOTE + render().rstrip() + "\n", encoding="utf-8")
