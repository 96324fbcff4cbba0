"""Who asks: what a service function must know of a request's originator."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.keys.scopes import Scope


@dataclass(frozen=True)
class Principal:
    """Originator of a request: the tenant whose jobs and datasets it sees, and its permissions."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    request_id: str | None = field(default=None, compare=False)
    address: str | None = field(default=None, compare=False)
