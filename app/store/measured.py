"""How long a store takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Histogram

from app.settings import Settings
from app.store.base import ArtifactStore

OPERATIONS = {
    "put_file": "put", "get_file": "get", "link_file": "link", "finish_upload": "finish_upload",
    "delete_prefix": "delete", "check": "check",
}  # fmt: skip
"""Methods of a store that are measured, and what the figures call them."""
_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)


def measure_store(store: ArtifactStore, settings: Settings, registry: CollectorRegistry) -> None:
    """Have ``store`` count the seconds of each operation, failed ones too, in a histogram of ``registry``."""
    seconds = Histogram(
        "qpruner_store_operation_seconds", "Seconds of an operation of the store.", ("store", "operation"),
        registry=registry, buckets=_BUCKETS,
    )  # fmt: skip
    kind = "s3" if urlsplit(settings.resolved_store_url).scheme == "s3" else "folder"
    for method, operation in OPERATIONS.items():
        setattr(store, method, _timed(getattr(store, method), seconds.labels(kind, operation)))


def _timed(method: Callable[..., Any], seconds: Histogram) -> Callable[..., Any]:
    @wraps(method)
    def timed(*arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return method(*arguments, **options)
        finally:
            seconds.observe(time.perf_counter() - begun)

    return timed
