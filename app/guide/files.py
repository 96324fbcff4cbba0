"""The documentation site at ``/guide``, as built by `make docs`; readable without internet."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.problems import Problem

SITE = Path(__file__).parent / "site"
_HEADERS = {
    # The site's own pages have inline scripts and styles; nothing comes from another host
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' "
        "data:; font-src 'self'; connect-src 'self'; worker-src 'self' blob:; base-uri 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class GuideFiles(StaticFiles):
    """Files of the built site. Raises a 404 problem if the site has not been built."""

    def __init__(self, site: Path = SITE) -> None:
        super().__init__(directory=site, html=True, check_dir=False)
        self._site = site

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file at ``path``, a directory's ``index.html``, or the site's 404 page."""
        if not (self._site / "index.html").is_file():
            raise Problem(
                404, "guide_not_built", "The guide is not built.", remedy="Run `make docs` and reload the page."
            )
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response

    async def check_config(self) -> None:
        """Checked on each request, because the site may be built while the service runs."""
