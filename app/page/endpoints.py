"""The service's web page: plain files, from this host only."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter, Response

from app.problems import Problem

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
def get_page() -> Response:
    """The page itself."""
    return _file("index.html")


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
def get_page_file(name: str) -> Response:
    """A style sheet, script or image of the page. Raises a 404 problem for unknown names."""
    return _file(name)


def _file(name: str) -> Response:
    if name not in {path.name for path in STATIC.iterdir()}:  # so that a name cannot lead elsewhere
        raise Problem(404, "not_found", "No such file.", remedy="The page is at /.")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response((STATIC / name).read_bytes(), media_type=kind, headers=HEADERS)
