"""Runs every check at once, each within a time limit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from app.database import create_database_engine
from app.doctor.clocks import check_clocks
from app.doctor.finding import Finding, failed
from app.doctor.machine import (
    check_device,
    check_folders,
    check_hub,
    check_llama_cpp,
    check_settings,
    check_vllm,
)
from app.doctor.parts import check_broker, check_database, check_keys, check_schema, check_service, check_workers
from app.doctor.store_round_trip import check_store
from app.settings import Settings

_LOG = logging.getLogger(__name__)
_SECONDS = 60.0  # importing torch takes the longest


def examine(settings: Settings, seconds: float = _SECONDS) -> list[Finding]:
    """A finding for every part, in a fixed order; a check that exceeds ``seconds`` has failed."""
    engine = create_database_engine(settings.resolved_database_url)
    try:
        return run_checks(
            {
                "settings": lambda: check_settings(settings),
                "folders": lambda: check_folders(settings),
                "database": lambda: check_database(settings, engine),
                "schema": lambda: check_schema(settings, engine),
                "keys": lambda: check_keys(settings, engine),
                "broker": lambda: check_broker(settings),
                "store": lambda: check_store(settings, engine),
                "workers": lambda: check_workers(settings),
                "service": lambda: check_service(settings),
                "clocks": lambda: check_clocks(settings, engine),
                "device": lambda: check_device(settings),
                "llama.cpp": lambda: check_llama_cpp(settings),
                "vLLM": lambda: check_vllm(settings),
                "hub": lambda: check_hub(settings),
            },
            seconds,
        )
    finally:
        engine.dispose()


def run_checks(checks: Mapping[str, Callable[[], Finding]], seconds: float) -> list[Finding]:
    """Findings of ``checks``, in order."""
    executor = ThreadPoolExecutor(len(checks), thread_name_prefix="doctor")
    futures = {part: executor.submit(check) for part, check in checks.items()}
    wait(futures.values(), timeout=seconds)
    executor.shutdown(wait=False, cancel_futures=True)
    return [_finding(part, future, seconds) for part, future in futures.items()]


def _finding(part: str, future: Future[Finding], seconds: float) -> Finding:
    if not future.done():
        return failed(part, f"the check did not finish within {seconds:g} s", "Find out which connection hangs.")
    error = future.exception()
    if error is None:
        return future.result()
    _LOG.debug("%s", part, exc_info=error)
    said = (str(error).splitlines() or [""])[0]
    return failed(part, f"the check failed: {type(error).__name__}: {said}", "Run it with QPRUNER_LOG_LEVEL=DEBUG.")
