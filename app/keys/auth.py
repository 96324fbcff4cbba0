"""Who asks, and what they may do: what endpoints put in their signatures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from app.database import utc_now
from app.dependencies import SessionDep, SettingsDep
from app.keys.binding import key_required
from app.keys.scopes import SCOPES, Scope, implied_scopes
from app.keys.service import DEFAULT_TENANT, find_key
from app.problems import Problem
from app.secrets import load_signing_key

_bearer = HTTPBearer(
    scheme_name="ApiKey",
    description="`Authorization: Bearer qp_…`; make a key with `qpruner keys create`. Not needed on 127.0.0.1.",
    auto_error=False,
)


@dataclass(frozen=True)
class Principal:
    """Who asks: the tenant whose jobs and datasets they see, and what they may do with them."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None


def current_principal(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Who the request's key belongs to; everyone is the default tenant where no key is demanded and none is given.

    Raises:
        Problem: 401, if the key is missing, mistyped, unknown, expired or revoked.
    """
    if credentials is None:
        if key_required(settings) or "authorization" in request.headers:
            raise _unauthenticated("This service needs an API key.")
        return Principal(DEFAULT_TENANT, frozenset(SCOPES))
    row = find_key(session, load_signing_key(settings), credentials.credentials)
    if row is None:
        raise _unauthenticated("The API key is mistyped or unknown.")
    if row.revoked_at is not None:
        raise _unauthenticated("The API key was revoked.")
    if row.expires_at is not None and row.expires_at <= utc_now():
        raise _unauthenticated("The API key has expired.")
    principal = Principal(row.tenant, implied_scopes(row.scopes), row.id)
    session.rollback()  # nothing was written, and on SQLite an open transaction keeps every other one waiting
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


def require_scope(scope: Scope) -> Callable[[Principal], Principal]:
    """A dependency that gives the principal if its key has ``scope``, and answers 403 if not."""

    def check(principal: CurrentPrincipal) -> Principal:
        if scope not in principal.scopes:
            raise Problem(
                403,
                "forbidden",
                f"The API key lacks the scope {scope!r}.",
                remedy=f"Use a key that was made with the scope {scope!r}.",
            )
        return principal

    return check


Reader = Annotated[Principal, Depends(require_scope("read"))]
Submitter = Annotated[Principal, Depends(require_scope("submit"))]
Admin = Annotated[Principal, Depends(require_scope("admin"))]


def _unauthenticated(detail: str) -> Problem:
    return Problem(
        401,
        "unauthenticated",
        detail,
        remedy="Send `Authorization: Bearer qp_…` with a key from `qpruner keys create`.",
        headers={"WWW-Authenticate": 'Bearer realm="qpruner"'},
    )
