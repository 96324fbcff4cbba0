"""Where the service may listen, and whom it trusts there."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from app.database import create_database_engine
from app.keys.service import has_usable_key
from app.settings import Settings
from qpruner_core.errors import QPrunerError


class UnsafeBindingError(QPrunerError):
    """The service would listen where others reach it, and ask nobody for a key that anyone has."""

    code = "unsafe_binding"
    exit_code = 2


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
        UnsafeBindingError: others reach that address, and keys are not demanded or none exists.
    """
    if is_loopback(settings.host):
        return
    if not key_required(settings):
        raise UnsafeBindingError(
            f"{settings.host} is reached by others, and no API key is demanded.",
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
            f"{settings.host} is reached by others, and there is no API key yet.",
            field="host",
            remedy="Make one with `qpruner keys create`, or listen on 127.0.0.1.",
        )


def trusted_hosts(settings: Settings) -> list[str]:
    """Names in the Host header that are answered; ``["*"]`` where a key protects every request.

    Without keys, a page that the user visits could have its own name resolve to 127.0.0.1 (DNS rebinding) and use the
    service as its same origin; it cannot forge the name, so we only answer to the loopback's.
    """
    if key_required(settings):
        return ["*"]
    public = urlsplit(settings.public_url or "").hostname
    names = {"127.0.0.1", "localhost", "[::1]", settings.host.lower(), *([public] if public else [])}
    return sorted(f"[{name}]" if ":" in name and not name.startswith("[") else name for name in names)
