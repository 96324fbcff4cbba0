"""Authentication and authorisation of requests, as dependencies of endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.database import utc_now
from app.keys.binding import key_required
from app.keys.models import ApiKey
from app.keys.principal import Principal
from app.keys.scopes import SCOPES, Scope, implied_scopes
from app.keys.service import DEFAULT_TENANT, find_key
from app.problems import Problem
from app.secrets import load_signing_key
from app.settings import Settings

_bearer = HTTPBearer(
    scheme_name="ApiKey",
    description="`Authorization: Bearer qp_…`; create a key with `qpruner keys create`. Not needed on 127.0.0.1.",
    auto_error=False,
)


async def current_principal(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """The owner of the request's key; the default tenant if no key is required and none is given.

    Raises:
        Problem: 401, if the key is missing, mistyped, unknown, expired or revoked.
    """
    settings: Settings = request.app.state.settings
    if credentials is None:
        if key_required(settings) or "authorization" in request.headers:
            raise unauthenticated("This service needs an API key.")
        return Principal(DEFAULT_TENANT, frozenset(SCOPES), None, *_origin(request))
    row = await run_in_threadpool(_find, request.app.state.read_sessions, settings, credentials.credentials)
    if row is None:
        raise unauthenticated("The API key is mistyped or unknown.")
    if row.revoked_at is not None:
        raise unauthenticated("The API key was revoked.")
    if row.expires_at is not None and row.expires_at <= utc_now():
        raise unauthenticated("The API key has expired.")
    return Principal(row.tenant, implied_scopes(row.scopes), row.id, *_origin(request))


def _origin(request: Request) -> tuple[str | None, str | None]:
    """Id of the request, and the address that it came from."""
    client = request.client
    return getattr(request.state, "request_id", None), None if client is None else client.host[:64]


def _find(sessions: sessionmaker[Session], settings: Settings, text: str) -> ApiKey | None:
    with sessions() as session:
        return find_key(session, load_signing_key(settings), text)


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


def require_scope(scope: Scope) -> Callable[[Principal], Awaitable[Principal]]:
    """A dependency that returns the principal if its key has ``scope``, and raises 403 otherwise."""

    async def check(principal: CurrentPrincipal) -> Principal:
        if scope not in principal.scopes:
            raise Problem(
                403,
                "forbidden",
                f"The API key lacks the scope {scope!r}.",
                remedy=f"Use a key with the scope {scope!r}.",
            )
        return principal

    return check


Reader = Annotated[Principal, Depends(require_scope("read"))]
Submitter = Annotated[Principal, Depends(require_scope("submit"))]
Admin = Annotated[Principal, Depends(require_scope("admin"))]


def unauthenticated(detail: str) -> Problem:
    """The 401 problem of a request with a missing or invalid key."""
    return Problem(
        401,
        "unauthenticated",
        detail,
        remedy="Send `Authorization: Bearer qp_…` with a key from `qpruner keys create`.",
        headers={"WWW-Authenticate": 'Bearer realm="qpruner"'},
    )
