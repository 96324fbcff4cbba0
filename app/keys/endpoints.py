"""Requests about the API keys of a tenant, for its administrators."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.audit import entries as audit
from app.database import utc_now
from app.dependencies import ReadSessionDep, SessionDep, SettingsDep
from app.keys import service
from app.keys.auth import Admin
from app.keys.schemas import KeyList, KeyRequest, KeyView, NewKeyView
from app.problems import Problem, problem_responses
from app.secrets import load_signing_key

router = APIRouter(prefix="/keys", tags=["keys"], responses=problem_responses("401 unauthenticated", "403 forbidden"))
KeyId = Annotated[str, Path(examples=["key_01k9t4ae5xfz3v2s6q0m8y1d7c"], description="Id of the key.")]


@router.post(
    "",
    status_code=201,
    summary="Create an API key",
    responses=problem_responses(
        "400 invalid_json", "413 body_too_large", "415 unsupported_media_type", "422 invalid_config",
        "422 invalid_key_request",
    ),
)  # fmt: skip
def create_key(
    body: KeyRequest, principal: Admin, session: SessionDep, settings: SettingsDep, response: Response
) -> NewKeyView:
    """Creates a key for your tenant. The key is only shown in this response: the service stores a hash."""
    expires_at = None if body.days is None else utc_now() + timedelta(days=body.days)
    signing_key = load_signing_key(settings)
    row, text = service.create_key(session, signing_key, principal.tenant, body.name, body.scopes, expires_at)
    audit.record(session, principal, "key.create", row.id)
    response.headers["Location"] = f"/keys/{row.id}"
    response.headers["Cache-Control"] = "no-store"
    return NewKeyView(**NewKeyView.values(row), key=text)


@router.get("", summary="List API keys")
def list_keys(principal: Admin, session: ReadSessionDep) -> KeyList:
    """The keys of your tenant, without the secrets."""
    return KeyList(keys=[KeyView.of(row) for row in reversed(service.list_keys(session, principal.tenant))])


@router.delete("/{key_id}", summary="Revoke an API key", responses=problem_responses("404 key_not_found"))
def revoke_key(key_id: KeyId, principal: Admin, session: SessionDep) -> KeyView:
    """Effective from the next request. The key stays in the list."""
    if not any(row.id == key_id for row in service.list_keys(session, principal.tenant)):
        raise Problem(404, "key_not_found", "There is no such key.", remedy="List yours with GET /keys.")
    row = service.revoke_key(session, key_id)
    audit.record(session, principal, "key.revoke", row.id)
    return KeyView.of(row)
