"""Looks at a run's model, dataset and budget before anything is queued."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.jobs.warm_up import load_core
from app.problems import Problem
from qpruner_core.config import CompressionConfig
from qpruner_core.report import Estimate
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.record import SpeedRecord

# A look may wait for a slow hub, and each holds one of the 40 threads that answer requests: these leave most of them
# to requests that look at nothing.
_MOST_LOOKS = 16
_LOOKS = threading.BoundedSemaphore(_MOST_LOOKS)
_PATIENCE_SECONDS = 2.0
_RETRY_SECONDS = 10


def check_run(config: CompressionConfig, policy: SourcePolicy, *, check_dataset: bool) -> Estimate:
    """What the run comes to, if it can be expected to end well. Raises a :class:`UserError`, or 503 ``busy``."""
    load_core()
    from qpruner_core import check

    with _one_look():
        return check(config, policy=policy, check_dataset=check_dataset)


def estimate_run(
    config: CompressionConfig, policy: SourcePolicy, *, check_dataset: bool, speed: SpeedRecord | None
) -> Estimate:
    """What the run would come to, with its times on a machine of this ``speed``; nothing is measured here.

    Raises what :func:`check_run` raises, but for an infeasible budget.
    """
    load_core()
    from qpruner_core import estimate

    with _one_look():
        return estimate(config, policy=policy, check_dataset=check_dataset, speed=lambda policy, setting: speed)


@contextmanager
def _one_look() -> Iterator[None]:
    # Whoever waits holds a thread as well, so nobody waits for long.
    if not _LOOKS.acquire(timeout=_PATIENCE_SECONDS):
        raise Problem(
            503,
            "busy",
            f"{_MOST_LOOKS} other requests are having their models looked at.",
            remedy="Try again shortly.",
            headers={"Retry-After": str(_RETRY_SECONDS)},
        )
    try:
        yield
    finally:
        _LOOKS.release()
