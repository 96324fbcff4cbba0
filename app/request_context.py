"""What surrounds every request: its id, the limit on its body, its measurement, and the answer of last resort."""

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

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """ASGI middleware around the whole application.

    Gives every answer an ``X-Request-Id`` (the client's own where it is well-formed), refuses bodies over the limit
    while they are read, counts requests, and answers what nothing else has caught with a 500 that tells no secrets.
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
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._guarded(request, scope, receive, send_with_id)
        except Exception:
            logger.exception("%s: unhandled error in %s %r", request_id, request.method, request.url.path)
            if status:  # the answer has begun: all that is left is to break it off
                raise
            await problem_response(request, internal_problem())(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - begun
            self.metrics.observe(scope, status, seconds)
            logger.info("%s: %s %r %d in %.3f s", request_id, request.method, request.url.path, status, seconds)

    async def _guarded(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        if request.url.path == "/datasets":  # app.datasets.upload counts the file itself
            await self.app(scope, receive, send)
            return
        limit = self.settings.max_body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            await problem_response(request, _body_too_large(limit))(scope, receive, send)
            return
        read = 0

        async def receive_within_limit() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > limit:
                    raise _body_too_large(limit)
            return message

        await self.app(scope, receive_within_limit, send)


def _body_too_large(limit: int) -> Problem:
    return Problem(
        413,
        "body_too_large",
        f"The body is larger than {format_bytes(limit)}.",
        remedy="Send less; files go to POST /datasets.",
    )
