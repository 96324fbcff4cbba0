"""Looks at a run's model, dataset and budget before anything is queued."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.problems import Problem
from qpruner_core.config import CompressionConfig
from qpruner_core.report import Estimate
from qpruner_core.source_policy import SourcePolicy

# To build a model without its memory, transformers and accelerate patch torch's classes for the whole process; two
# threads that do so at once leave the patches in place for good. So one request at a time looks at a model.
_TURN = threading.Lock()
_PATIENCE_SECONDS = 30.0
_RETRY_SECONDS = 10


def check_run(config: CompressionConfig, policy: SourcePolicy, *, check_dataset: bool) -> None:
    """Return if the run can be expected to end well. Raises a :class:`UserError`, or 503 ``busy``."""
    from qpruner_core import check  # imports torch, which an API that is only read from can do without

    with _own_turn():
        check(config, policy=policy, check_dataset=check_dataset)


def estimate_run(config: CompressionConfig, policy: SourcePolicy, *, check_dataset: bool) -> Estimate:
    """What the run would come to. Raises what :func:`check_run` raises, but for an infeasible budget."""
    from qpruner_core import estimate  # as above

    with _own_turn():
        return estimate(config, policy=policy, check_dataset=check_dataset)


@contextmanager
def _own_turn() -> Iterator[None]:
    # Whoever waits holds one of the threads that answer requests, so nobody waits for long.
    if not _TURN.acquire(timeout=_PATIENCE_SECONDS):
        raise Problem(
            503,
            "busy",
            "Other requests are having their models looked at.",
            remedy="Try again shortly.",
            headers={"Retry-After": str(_RETRY_SECONDS)},
        )
    try:
        yield
    finally:
        _TURN.release()
