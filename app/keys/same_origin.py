"""Keeps pages of other sites from using a service without keys."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.keys.binding import matches
from app.problems import Problem, problem_response

_FOR_PROBES = frozenset({"/healthz", "/readyz"})  # liveness checks may know the service by an address alone
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOriginMiddleware:
    """Returns 403 for a Host outside ``hosts``, and for a change requested by a page of another origin.

    ``hosts`` is :func:`app.keys.binding.trusted_hosts`; with ``"*"`` in it, nothing is rejected.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], public_url: str | None = None) -> None:
        self.app = app
        self.hosts = frozenset(name.strip("[]").lower() for name in hosts)
        self.public_origin = _origin(public_url) if public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or reject it."""
        problem = self._problem(scope) if scope["type"] == "http" and "*" not in self.hosts else None
        if problem is None:
            await self.app(scope, receive, send)
        else:
            await problem_response(Request(scope), problem)(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if scope["path"] not in _FOR_PROBES and not matches(_hostname(host) or "", self.hosts):
            return Problem(
                403,
                "host_not_allowed",
                f"This service does not accept the name {host!r}.",
                remedy="Use http://127.0.0.1, or name the address in QPRUNER_TRUSTED_HOSTS.",
            )
        origin = headers.get("origin")
        if scope["method"] in _SAFE_METHODS or origin is None:
            return None  # browsers always send Origin with a change for another origin
        if origin in (f"{scope['scheme']}://{host}", self.public_origin):
            return None
        return Problem(
            403,
            "cross_origin",
            f"A page of {origin} may not change anything here.",
            remedy="Use the service's own page, a client other than a browser, or API keys.",
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
