"""Access to the metrics: public, by a key with the scope ``metrics``, or on a separate port
(:mod:`app.metrics_port`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.keys.auth import require_scope, unauthenticated
from app.keys.binding import key_required
from app.keys.principal import Principal
from app.problems import problem_responses
from app.settings import Settings


def metrics_router(settings: Settings) -> APIRouter:
    """``GET /metrics`` with the access of ``settings``; without routes if the metrics have their own port."""
    router = APIRouter(tags=["operation"])
    if settings.metrics_port is not None:
        return router
    access = settings.metrics_access or ("key" if key_required(settings) else "open")
    guarded = access == "key"
    router.add_api_route(
        "/metrics",
        metrics,
        summary="Prometheus metrics",
        response_class=Response,
        dependencies=[Depends(_require_key)] if guarded else [],
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **(problem_responses("401 unauthenticated", "403 forbidden") if guarded else {}),
        },
    )
    return router


def metrics(request: Request) -> Response:
    """Requests of this process since its start; jobs, queue and stages from the database."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


def _require_key(principal: Annotated[Principal, Depends(require_scope("metrics"))]) -> None:
    """Also if the service requires no key."""
    if principal.key_id is None:
        raise unauthenticated("The metrics need an API key.")
