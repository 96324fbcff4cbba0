"""Checks of database, schema, keys, broker, workers and the running service."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import httpx
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.broker import Broker, BrokerUnavailableError, embedded_socket, resolved_broker_url
from app.database_errors import SchemaMismatchError, explain
from app.doctor.finding import Finding, failed, ok, skipped, warning
from app.embedded import base_url
from app.keys.binding import key_required
from app.keys.service import has_usable_key
from app.migrate import require_current_schema
from app.settings import Settings

_SECONDS = 5.0
_SERVE = "Start it with `qpruner serve`."


def check_database(settings: Settings, engine: Engine) -> Finding:
    """Whether the database responds, and how fast."""
    where = make_url(settings.resolved_database_url).render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            begun = time.perf_counter()
            connection.execute(text("SELECT 1"))
            milliseconds = 1000 * (time.perf_counter() - begun)
            version = ".".join(map(str, connection.dialect.server_version_info or ()))
    except SQLAlchemyError as error:
        explained = explain(error)
        return failed("database", explained.message, explained.remedy)
    return ok("database", f"{engine.dialect.name} {version} at {where}, responds in {milliseconds:.1f} ms")


def check_schema(settings: Settings, engine: Engine) -> Finding:
    """Whether the schema belongs to this release."""
    try:
        revision = require_current_schema(engine)
    except SchemaMismatchError as error:
        if settings.database_url is None and "does not know" not in error.message:
            return warning("schema", error.message, "`qpruner serve` upgrades it when it starts.")
        return failed("schema", error.message, error.remedy)
    except SQLAlchemyError:
        return skipped("schema", "the database is unreachable")
    return ok("schema", f"at revision {revision}, which belongs to this release")


def check_keys(settings: Settings, engine: Engine) -> Finding:
    """Whether usable keys exist in a service that requires keys."""
    if not key_required(settings):
        return skipped("keys", f"not required: the service only listens on {settings.host}")
    try:
        with Session(engine) as session:
            usable = has_usable_key(session)
    except SQLAlchemyError:
        return skipped("keys", "the database is unreachable, or not migrated")
    if usable:
        return ok("keys", "required, and keys exist")
    return failed(
        "keys",
        ("Create one with `qpruner keys create --name NAME`."),
        "Make one with `qpruner keys create --name NAME`.",
    )


def check_broker(settings: Settings) -> Finding:
    """Whether the broker responds, and its number of pending wake-ups."""
    broker = Broker(resolved_broker_url(settings))
    try:
        begun = time.perf_counter()
        broker.check()
        milliseconds = 1000 * (time.perf_counter() - begun)
        return ok(
            "broker", (f"{_place(broker.url)}, responds in {milliseconds:.1f} ms, {broker.backlog()} pending wake-ups")
        )
    except BrokerUnavailableError as error:
        if settings.broker_url is None:
            return warning(
                "broker", (f"the embedded Valkey at {embedded_socket(settings.data_dir)} is not running"), _SERVE
            )
        return failed("broker", str(error), "Start it, or correct QPRUNER_BROKER_URL.")
    finally:
        broker.close()


def check_workers(settings: Settings) -> Finding:
    """Whether a worker is alive."""
    broker = Broker(resolved_broker_url(settings))
    try:
        number = broker.count_workers(timeout=1.0)
    except BrokerUnavailableError:
        return skipped("workers", "the broker is unreachable")
    finally:
        broker.close()
    if number:
        return ok("workers", f"{number} alive")
    return failed("workers", "none responds: jobs wait", "Start one with `qpruner worker`.")


def check_service(settings: Settings) -> Finding:
    """Whether the API is reachable at its configured address, and ready."""
    url = service_url(settings)
    try:
        answer = httpx.get(f"{url}/readyz", timeout=_SECONDS + 2)
        parts = answer.json()["parts"]
    except httpx.HTTPError:
        return warning("service", f"no service at {url}", _SERVE)
    except (ValueError, KeyError, TypeError):
        return failed("service", f"the service at {url} is not QPruner", "Correct QPRUNER_PUBLIC_URL or QPRUNER_PORT.")
    bad = [f"{name} {part['detail']}" for name, part in parts.items() if not part["ready"]]
    if bad:
        return failed("service", f"{url} is not ready: {'; '.join(bad)}", "See the line of that part.")
    return ok("service", f"{url} is ready")


def service_url(settings: Settings) -> str:
    """Address of the API as seen from this machine."""
    url = base_url(settings)
    if settings.public_url:
        return url
    for every, here in (("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):  # noqa: S104 - what is replaced
        url = url.replace(f"//{every}:", f"//{here}:")
    return url


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
