"""Checks that the clocks of this machine and of the parts agree: leases and signatures depend on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import httpx
import redis
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from app.broker import SOCKET_SECONDS, redis_url, resolved_broker_url
from app.doctor.finding import Finding, failed, ok, skipped, warning
from app.settings import Settings

_NOTABLE = 2.0  # seconds; HTTP dates have whole ones
_SECONDS = 5.0


def check_clocks(settings: Settings, engine: Engine) -> Finding:
    """The largest difference between this machine's clock and those of database, broker and bucket."""
    differences: dict[str, float] = {}
    for name, ask in {
        "database": lambda: _database(engine), "broker": lambda: _broker(settings), "store": lambda: _bucket(settings),
    }.items():  # fmt: skip
        seconds = _difference(ask)
        if seconds is not None:
            differences[name] = seconds
    if not differences:
        return skipped("clocks", "no remote part reports its time")
    return judge(differences, settings.lease_seconds)


def judge(differences: dict[str, float], lease_seconds: float) -> Finding:
    """Finding for differences in seconds, by part, with leases of ``lease_seconds``."""
    worst = max(differences, key=lambda name: abs(differences[name]))
    apart = abs(differences[worst])
    detail = ", ".join(f"{name} {seconds:+.1f} s" for name, seconds in differences.items())
    remedy = f"Synchronise this machine and that of the {worst} with one time server."
    if apart > lease_seconds / 3:
        return failed("clocks", f"{detail}: leases of {lease_seconds:g} s are unreliable", remedy)
    if apart > _NOTABLE:
        return warning("clocks", detail, remedy)
    return ok("clocks", detail)


def _difference(ask: Callable[[], float | None]) -> float | None:
    """Seconds by which the clock of ``ask`` is ahead of this one; half of the round-trip time is subtracted."""
    begun = time.time()
    told = ask()
    return None if told is None else told - (begun + time.time()) / 2


def _database(engine: Engine) -> float | None:
    if engine.dialect.name != "postgresql":
        return None  # a file has no clock
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))  # connecting takes time, which would count as clock difference
            return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    except SQLAlchemyError:
        return None


def _broker(settings: Settings) -> float | None:
    url = redis_url(resolved_broker_url(settings))
    client = redis.Redis.from_url(url, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS)
    try:
        seconds, microseconds = client.time()
        return float(seconds) + float(microseconds) / 1e6
    except (redis.RedisError, OSError):
        return None
    finally:
        client.close()


def _bucket(settings: Settings) -> float | None:
    if not settings.resolved_store_url.startswith("s3:"):
        return None
    endpoint = settings.s3_endpoint_url or f"https://s3.{settings.s3_region}.amazonaws.com"
    try:
        told = httpx.get(endpoint, timeout=_SECONDS).headers.get("date")
        return None if told is None else parsedate_to_datetime(told).timestamp() + 0.5
    except (httpx.HTTPError, ValueError):
        return None
