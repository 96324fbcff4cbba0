"""Context of every request: its id, the limits of its body, its metrics, and the last error handler."""

from __future__ import annotations

import logging
import re
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.ids import new_id
from app.metrics import HttpMetrics
from app.problems import Problem, internal_problem, problem_response
from app.settings import Settings
from qpruner_core.sizes import format_bytes

logger = logging.getLogger(__name__)

_MOST_VALUES = 10_000
"""Commas and opening brackets of a JSON body: each invalid value costs as much as a small request."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """ASGI middleware around the whole application.

    Adds an ``X-Request-Id`` to every response (the client's own if it is well-formed), rejects bodies beyond the limits
    of bytes and values while they are read, counts requests, and turns unhandled exceptions into a 500 without secrets.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: HttpMetrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        status, begun = 0, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                kept = [_relative(header, request) for header in message.get("headers", [])]
                message["headers"] = [*kept, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._guarded(request, scope, receive, send_with_id)
        except Exception:
            logger.exception("%s: unhandled error in %s %r", request_id, request.method, request.url.path)
            if status:  # the response has begun: it can only be cut off
                raise
            await problem_response(request, internal_problem())(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - begun
            self.metrics.observe(scope, status, seconds)
            logger.info("%s: %s %r %d in %.3f s", request_id, request.method, request.url.path, status, seconds)

    async def _guarded(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        if _CONTROL.search(scope["path"]):  # neither files nor databases can have such a name
            await problem_response(request, _no_such_path())(scope, receive, send)
            return
        if _counts_itself(request):
            await self.app(scope, receive, send)
            return
        limit = self.settings.max_body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            await problem_response(request, _body_too_large(limit))(scope, receive, send)
            return
        read = values = 0

        async def receive_within_limit() -> Message:
            nonlocal read, values
            message = await receive()
            if message["type"] == "http.request":
                body = message.get("body", b"")
                read += len(body)
                if read > limit:
                    raise _body_too_large(limit)
                values += body.count(b",") + body.count(b"[") + body.count(b"{")
                if values > _MOST_VALUES:
                    raise _body_too_complex()
            return message

        await self.app(scope, receive_within_limit, send)


def _relative(header: tuple[bytes, bytes], request: Request) -> tuple[bytes, bytes]:
    """``header``, if it redirects to this service without its name, which the sender of the request may have made
    up."""
    name, value = header
    own = f"{request.scope.get('scheme', 'http')}://{request.headers.get('host', '')}".encode("latin-1")
    if name.lower() != b"location" or not value.lower().startswith(own.lower()):
        return header
    path = value[len(own) :]
    return (name, path) if path[:1] == b"/" and path[1:2] not in (b"/", b"\\") else header


def _counts_itself(request: Request) -> bool:
    """Whether the request sends a file: :mod:`app.datasets.upload` and :mod:`app.uploads.part_endpoint` know better how
    large that may be."""
    if request.url.path == "/datasets":
        return not is_json(request)
    return request.method == "PUT" and request.url.path.startswith("/store/")


def is_json(request: Request) -> bool:
    """Whether the body is a JSON document for us, and not a file: that has its name in the query."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" and "filename" not in request.query_params


def _no_such_path() -> Problem:
    return Problem(
        404, "not_found", ("Paths must not contain control characters."), remedy="See /docs for the available requests."
    )


def _body_too_complex() -> Problem:
    return Problem(
        413,
        "body_too_complex",
        f"The body has more than {_MOST_VALUES} values.",
        remedy="Send the settings of one job; files go to POST /datasets and POST /models.",
    )


def _body_too_large(limit: int) -> Problem:
    return Problem(
        413,
        "body_too_large",
        f"The body is larger than {format_bytes(limit)}.",
        remedy="Send less; files go to POST /datasets and POST /models.",
    )
