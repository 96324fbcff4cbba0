"""Liveness and readiness."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Engine
from starlette.datastructures import State

from app.database_errors import SchemaMismatchError
from app.jobs.warm_up import WarmUp
from app.migrate import require_current_schema
from app.store import StoreAwayError

PartName = Literal["database", "broker", "store", "workers", "models"]

logger = logging.getLogger(__name__)

router = APIRouter(tags=["operation"])

_PATIENCE_SECONDS = 5.0
_FRESH_SECONDS = 2.0


class Alive(BaseModel):
    """The process responds."""

    status: Literal["alive"] = "alive"


class PartState(BaseModel):
    """One part that the service depends on. The log has the reason of a failure."""

    ready: bool
    detail: str = Field(examples=["ready", "is unreachable", "is not migrated", "no worker answers", "is loading"])


class Readiness(BaseModel):
    """Ready if every part is."""

    ready: bool
    parts: dict[PartName, PartState]


class _NotReadyError(Exception):
    """A part responds, but is unusable; the message may be shown."""


@router.get("/healthz", summary="Check liveness")
def healthz() -> Alive:
    """Checks no other part, so that an unavailable one does not cause a restart of this process."""
    return Alive()


@router.get(
    "/readyz",
    summary="Check readiness",
    responses={503: {"model": Readiness, "description": "A part is not ready."}},
)
async def readyz(request: Request, response: Response) -> Readiness:
    """Ready if the database responds and is migrated, broker and store respond, at least one worker is alive, and this
    process has loaded the modules that inspect models.

    The result may be two seconds old.
    """
    probe: ReadinessProbe = request.app.state.readiness
    readiness = await asyncio.wrap_future(probe.current())
    response.status_code = 200 if readiness.ready else 503
    return readiness


class ReadinessProbe:
    """Runs ``check`` for all callers, once at a time and at most every two seconds.

    The endpoint is public, and a check writes to the store: many callers must not cause many checks.
    """

    def __init__(self, check: Callable[[], Readiness]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._latest: Future[Readiness] | None = None
        self._fresh_until = 0.0

    def current(self) -> Future[Readiness]:
        """The result of the running check, of the latest one, or of a new one. Cannot be cancelled."""
        with self._lock:
            latest = self._latest
            if latest is None or (latest.done() and time.monotonic() >= self._fresh_until):
                latest = self._latest = Future()
                latest.set_running_or_notify_cancel()  # a disconnected caller must not cancel it for others
                threading.Thread(target=self._run, args=(latest,), name="readiness", daemon=True).start()
            return latest

    def _run(self, future: Future[Readiness]) -> None:
        try:
            readiness = self._check()
        except BaseException as error:  # noqa: BLE001  whoever waits must hear of it
            future.set_exception(error)
            return
        self._fresh_until = time.monotonic() + _FRESH_SECONDS
        future.set_result(readiness)


def check_service(state: State) -> Readiness:
    """Check every part of ``state`` of the application."""
    return check_parts(
        {
            "database": lambda: _check_database(state.engine),
            "broker": state.broker.check,
            "store": state.store.check,
            "workers": lambda: _check_workers(state.broker.count_workers),
            "models": lambda: _check_warm(state.warm_up),
        }
    )


def check_parts(
    checks: dict[PartName, Callable[[], None]],
) -> Readiness:
    """Run all ``checks`` at once; one that raises, or does not finish within five seconds, is not ready."""
    executor = ThreadPoolExecutor(len(checks), thread_name_prefix="readiness")
    futures = {part: executor.submit(check) for part, check in checks.items()}
    wait(futures.values(), timeout=_PATIENCE_SECONDS)
    executor.shutdown(wait=False, cancel_futures=True)
    parts = {part: _state(part, future) for part, future in futures.items()}
    return Readiness(ready=all(part.ready for part in parts.values()), parts=parts)


def _state(part: str, future: Future[None]) -> PartState:
    if not future.done():
        logger.warning("readiness: %s did not respond within %s s", part, _PATIENCE_SECONDS)
        return PartState(ready=False, detail="is unreachable")
    error = future.exception()
    if error is None:
        return PartState(ready=True, detail="ready")
    logger.warning("readiness: %s: %s", part, error)
    if isinstance(error, StoreAwayError):
        return PartState(ready=False, detail="is unavailable: it is not the store that the database knows")
    return PartState(ready=False, detail=str(error) if isinstance(error, _NotReadyError) else "is unreachable")


def _check_database(engine: Engine) -> None:
    try:
        require_current_schema(engine)
    except SchemaMismatchError as error:
        raise _NotReadyError(f"has another release's schema: {error.message} {error.remedy}") from error


def _check_warm(warm_up: WarmUp) -> None:
    if warm_up.state != "warm":
        raise _NotReadyError("is loading" if warm_up.state == "cold" else "cannot be checked")


def _check_workers(count_workers: Callable[[], int]) -> None:
    if count_workers() < 1:
        raise _NotReadyError("no worker responds")
