"""Addresses that the service may listen on, and the clients it trusts there."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from functools import cache
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from app.database import create_database_engine
from app.keys.service import has_usable_key
from app.settings import Settings
from qpruner_core.errors import QPrunerError


class UnsafeBindingError(QPrunerError):
    """The service would listen on a reachable address without requiring keys."""

    code = "unsafe_binding"
    exit_code = 2


@cache
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``; any name but ``localhost`` counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def key_required(settings: Settings) -> bool:
    """Whether a request needs an API key."""
    return not is_loopback(settings.host) if settings.require_key is None else settings.require_key


def ensure_safe_binding(settings: Settings) -> None:
    """Return if the service may listen on ``settings.host``; the database must be migrated.

    Raises:
        UnsafeBindingError: the address is reachable from elsewhere, and keys are not required or none exists.
    """
    if is_loopback(settings.host):
        return
    if not key_required(settings):
        raise UnsafeBindingError(
            f"{settings.host} is reachable from other machines, but no API key is required.",
            field="require_key",
            remedy="Listen on 127.0.0.1, or leave QPRUNER_REQUIRE_KEY unset.",
        )
    engine = create_database_engine(settings.resolved_database_url)
    try:
        with Session(engine) as session:
            usable = has_usable_key(session)
    finally:
        engine.dispose()
    if not usable:
        raise UnsafeBindingError(
            f"{settings.host} is reachable from other machines, but there is no API key yet.",
            field="host",
            remedy="Create one with `qpruner keys create`, or listen on 127.0.0.1.",
        )


def trusted_hosts(settings: Settings) -> list[str]:
    """Accepted names in the Host header; ``["*"]`` if a key protects every request and none are configured.

    Without keys, a page that the user visits could make its own name resolve to 127.0.0.1 (DNS rebinding) and use the
    service as its same origin. It cannot forge the name, so only the loopback's names are accepted.
    """
    if key_required(settings) and not settings.trusted_hosts:
        return ["*"]
    return sorted(_own_names(settings))


def is_own_name(settings: Settings, host: str | None, server: str | None) -> bool:
    """Whether the name ``host`` of a request surely belongs to this service, and was not made up by its sender.

    ``server`` is the address that the request arrived at.
    """
    if host is None:
        return False
    name = host.strip("[]").lower()
    return matches(name, {one.strip("[]") for one in _own_names(settings)}) or name == (server or "").lower()


def matches(name: str, allowed: Collection[str]) -> bool:
    """Whether ``name`` is one of ``allowed``; entries that begin with ``*.`` match every name with that ending."""
    return name in allowed or any(one.startswith("*.") and name.endswith(one[1:]) for one in allowed)


def _own_names(settings: Settings) -> set[str]:
    public = urlsplit(settings.public_url or "").hostname
    names = {"127.0.0.1", "localhost", "[::1]", *settings.trusted_hosts, *([public] if public else [])}
    if settings.host not in ("0.0.0.0", "::", ""):  # noqa: S104 - every address is no name
        names.add(settings.host.lower())
    return {f"[{name}]" if ":" in name and not name.startswith("[") else name for name in names}
