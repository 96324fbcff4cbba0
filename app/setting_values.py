"""Validation of settings: each error is one sentence with its remedy."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

if TYPE_CHECKING:
    from sqlalchemy import URL

_SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")
_BROKER_SCHEMES = ("redis", "rediss", "unix", "redis+socket")
_DATABASE_REMEDY = 'Give "postgresql://user:password@host/name" or "sqlite:////absolute/file.db", or leave it unset.'
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[?(?=.*:.*:)[0-9a-fA-F:.]+\]?")
_ROOTS_REMEDY = 'Give absolute folders, as "/one:/two" or as a JSON list.'


def _nothing(value: Any) -> Any:
    """An empty variable counts as unset."""
    return None if isinstance(value, str) and not value.strip() else value


def _database_url(value: str | None) -> str | None:
    if value is None:
        return None
    from sqlalchemy import make_url  # half of the start-up time of a command
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(value)
    except (ArgumentError, ValueError) as error:  # the value may contain a password: it is not repeated
        raise ValueError(f"Not a database URL. {_DATABASE_REMEDY}") from error
    backend = url.get_backend_name()
    if backend == "sqlite":
        _require_sqlite_file(url)
    elif backend not in ("postgresql", "postgres"):
        raise ValueError(f"The database {backend!r} is not supported. {_DATABASE_REMEDY}")
    return value


def _require_sqlite_file(url: URL) -> None:
    if url.drivername not in _SQLITE_DRIVERS:
        raise ValueError(f"The driver {url.drivername!r} is not supported. {_DATABASE_REMEDY}")
    if url.host or not url.database or url.database == ":memory:":
        raise ValueError(f"A SQLite database shared by processes must be a file. {_DATABASE_REMEDY}")


def _broker_url(value: str | None) -> str | None:
    if value is not None and not _has_place(value, _BROKER_SCHEMES):
        raise ValueError('Not a Redis URL. Give "redis://host:6379/0" or "unix:///socket", or leave it unset.')
    return value


def _http_url(value: str | None) -> str | None:
    if value is not None and not (_has_place(value, ("http", "https")) and urlsplit(value).hostname):
        raise ValueError('Not an HTTP address. Give "https://name" or "http://name:port".')
    return value


def _has_place(value: str, schemes: tuple[str, ...]) -> bool:
    """Whether ``value`` is a URL of one of ``schemes`` with a host or a path, and a valid port if any."""
    try:
        url = urlsplit(value)
        return url.scheme in schemes and bool(url.hostname or url.path.strip("/")) and (url.port or 1) > 0
    except ValueError:
        return False


def _roots(value: Any) -> Any:
    """Folders separated by colons, as in PATH, or a JSON list of them."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [part for part in value.split(":") if part.strip()]
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"It begins like a JSON list but is not one. {_ROOTS_REMEDY}") from error


def _host_names(value: Any) -> Any:
    """Names separated by commas or spaces; ``*.`` at the front stands for any name before the rest."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _known_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f'{name!r} is not a host name. Give names such as "prune.example.org, *.internal".')
    return tuple(name.lower() for name in names)


def _days(value: Any) -> Any:
    """Days for all tenants, and for named ones: ``30 research=90``."""
    if not isinstance(value, str):
        return value
    pairs = [part.rpartition("=") for part in value.replace(",", " ").split()]
    if not all(days.isascii() and days.isdigit() and (tenant or not equals) for tenant, equals, days in pairs):
        raise ValueError(
            'Not a number of days. Give one for all tenants, and others for named ones, such as "30 research=90".'
        )
    return {tenant: int(days) for tenant, _, days in pairs}


def _log_level(value: str) -> str:
    known = logging.getLevelNamesMapping()
    if value.upper() not in known:
        names = ", ".join(name for name in known if name not in ("NOTSET", "WARN", "FATAL"))
        raise ValueError(f"{value!r} is not a log level. Give one of {names}.")
    return value.upper()


DatabaseUrl = Annotated[str | None, BeforeValidator(_nothing), AfterValidator(_database_url)]
"""SQLite in a file, or PostgreSQL."""
BrokerUrl = Annotated[str | None, BeforeValidator(_nothing), AfterValidator(_broker_url)]
"""Redis over TCP, TLS or a socket."""
StoreUrl = Annotated[str | None, BeforeValidator(_nothing)]
"""Checked by :func:`app.store.open_store`."""
HttpUrl = Annotated[str | None, BeforeValidator(_nothing), AfterValidator(_http_url)]
"""An HTTP or HTTPS address."""
Roots = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_roots)]
"""Folders; in an environment variable as ``/one:/two`` or as a JSON list."""
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_host_names), AfterValidator(_known_names)]
"""Host names without a port."""
DaysOfTenants = Annotated[dict[str, Annotated[int, Field(ge=0, le=36_500)]], NoDecode, BeforeValidator(_days)]
"""Days by tenant; those of the tenant ``""`` are for all others."""
LogLevel = Annotated[str, AfterValidator(_log_level)]
"""The name of a level of :mod:`logging`, in upper case."""
