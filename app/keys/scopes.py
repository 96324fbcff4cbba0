"""Scopes of keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Scope = Literal["read", "submit", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_IMPLIED: dict[Scope, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "submit": frozenset({"submit", "read"}),
    "metrics": frozenset({"metrics"}),
    "admin": frozenset(SCOPES),
}


def implied_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """Permissions of ``scopes``: admin all, submit also read, any other itself; unknown ones none."""
    return frozenset(implied for scope in SCOPES if scope in set(scopes) for implied in _IMPLIED[scope])
