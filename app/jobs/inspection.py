"""Inspects a run's model, dataset and budget before anything is queued, and each model once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session, sessionmaker

from app.jobs.known_uploads import KnownUploads
from app.jobs.warm_up import load_core
from app.problems import Problem
from app.settings import Settings
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import UserError
from qpruner_core.report import Estimate
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.record import SpeedRecord

if TYPE_CHECKING:
    from qpruner_core.data import DatasetDescription
    from qpruner_core.known_models import KnownModels

# Each inspection holds one of the 40 threads that serve requests: these limits leave most of them to other requests.
MOST_LOOKS = 16
_PATIENCE_SECONDS = 2.0
_RETRY_SECONDS = 10
# Every thread of Python that computes makes the event loop wait up to 5 ms whenever it comes back from the system: one
# scan computes at a time, and none in the pauses.
_SLICE_SECONDS = 0.005
_PAUSE_SECONDS = 0.001


@dataclass(frozen=True)
class Asker:
    """Originator of a request; ``left``: whether its client has disconnected."""

    tenant: str
    left: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class _Asked:
    """A running inspection: its originator, and its end by :func:`time.monotonic`."""

    asker: Asker
    deadline: float


_asked: ContextVar[_Asked] = ContextVar("asked")


class Inspector:
    """Checks and estimates runs for many threads at once. ``uploads``: datasets that were found for them."""

    def __init__(self, sessions: sessionmaker[Session], settings: Settings) -> None:
        self._sessions = sessions
        self._seconds = settings.look_seconds
        self._scan_seconds = settings.dataset_check_seconds
        self._places = Places(MOST_LOOKS, settings.max_looks)
        self._computing = threading.Lock()
        self.uploads = KnownUploads()

    def check(
        self, config: CompressionConfig, policy: SourcePolicy, asker: Asker, *, check_dataset: bool
    ) -> Estimate:  # fmt: skip
        """The estimate of the run, if it is expected to succeed.

        Raises:
            UserError: it is certain to fail.
            HubUnavailableError: the hub did not respond in time.
            Problem: 503 ``busy``, the limit of concurrent inspections is reached.
        """
        load_core()
        from qpruner_core.planning import check

        with self._for(asker):
            return check(config, policy=policy, check_dataset=check_dataset, known=self._known)

    def estimate(
        self, config: CompressionConfig, policy: SourcePolicy, asker: Asker, *,
        check_dataset: bool, speed: SpeedRecord | None,
    ) -> Estimate:  # fmt: skip
        """The estimate of the run, with times on a machine of this ``speed``; measures nothing.

        Raises the errors of :meth:`check`, except an infeasible budget.
        """
        load_core()
        from qpruner_core.planning import estimate

        with self._for(asker):
            return estimate(
                config, policy=policy, check_dataset=check_dataset, speed=lambda policy, setting: speed,
                known=self._known,
            )  # fmt: skip

    def received_dataset(self, path: Path, policy: SourcePolicy, asker: Asker) -> DatasetDescription:
        """Description of a file that was received by a request; errors call it by its name, and the field ``file``.

        Raises:
            DatasetInvalidError, DatasetTooLargeError: it cannot be used.
            Problem: 503 ``busy``; 422 ``dataset_check_timeout``; 400 ``upload_broken_off``, the client has left.
        """
        load_core()
        from qpruner_core.data import inspect_dataset

        policy = policy.model_copy(update={"uploads": {path.name: path}})
        with self.place(asker.tenant):
            try:
                check_stop = self._end_of_scan(asker)
                with self._computing:
                    return inspect_dataset(path.name, policy, check_stop)
            except UserError as error:
                error.field = "file"
                raise

    def _end_of_scan(self, asker: Asker) -> Callable[[], None]:
        """A function that raises once the time of a request is over or its client has left, and that yields to other
        scans and the event loop after every slice of time."""
        deadline = time.monotonic() + self._scan_seconds
        slice_end = 0.0

        def check_stop() -> None:
            nonlocal slice_end
            if time.monotonic() > slice_end:
                self._computing.release()
                try:
                    time.sleep(_PAUSE_SECONDS)
                finally:
                    self._computing.acquire()
                slice_end = time.monotonic() + _SLICE_SECONDS
            if asker.left():
                raise Problem(400, "upload_broken_off", "The client left while its file was checked.")
            if time.monotonic() > deadline:
                raise Problem(
                    422, "dataset_check_timeout",
                    f"The file could not be checked within {self._scan_seconds:.3g} s, the limit of a request.",
                    field="file",
                    remedy="Upload it with POST /datasets with a JSON body and in parts, which a worker checks without "
                    "that limit; or send a part of it.",
                )  # fmt: skip

        return check_stop

    def place(self, tenant: str) -> AbstractContextManager[None]:
        """Context manager: hold one of the tenant's places for an inspection. Raises a 503 problem ``busy``."""
        return self._places.one_of(tenant)

    @property
    def looks(self) -> int:
        """Number of running inspections."""
        return self._places.taken

    @cached_property
    def _known(self) -> KnownModels:
        """Results so far."""
        from app.jobs.model_facts import StoredFacts
        from qpruner_core.known_models import KnownModels
        from qpruner_core.patience import patient_hub_client

        patient_hub_client()
        return KnownModels(StoredFacts(self._sessions, lambda: _asked.get().asker.tenant), self._slowly)

    @contextmanager
    def _for(self, asker: Asker) -> Iterator[None]:
        token = _asked.set(_Asked(asker, time.monotonic() + self._seconds))
        try:
            yield
        finally:
            _asked.reset(token)

    @contextmanager
    def _slowly(self) -> Iterator[None]:
        """Hold a place for a slow inspection; known models take milliseconds and need none."""
        from qpruner_core.patience import patience

        asked = _asked.get()
        left = max(0.0, asked.deadline - time.monotonic())
        with self.place(asked.asker.tenant), patience(left, asked.asker.left):
            yield


class Places:
    """Limit of concurrent inspections, with a maximum share per tenant; callers without a place wait briefly."""

    def __init__(self, most: int, share: int, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._most = most
        self._share = share
        self._patience = patience_seconds
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def one_of(self, tenant: str) -> Iterator[None]:
        """Hold a place of ``tenant``. Raises a 503 problem ``busy``.

        A waiting caller also holds a thread: nobody waits for long, and no more of a tenant than it has places.
        """
        with self._changed:
            self._wait(tenant)
            self._taken[tenant] += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken[tenant] -= 1
                if not self._taken[tenant]:
                    del self._taken[tenant]
                self._changed.notify_all()

    @property
    def taken(self) -> int:
        """Number of held places."""
        with self._changed:
            return self._taken.total()

    def waiting(self, tenant: str) -> int:
        """Number of requests of ``tenant`` that wait for a place."""
        with self._changed:
            return self._waiting[tenant]

    def _wait(self, tenant: str) -> None:
        def free() -> bool:
            return self._taken[tenant] < self._share and self._taken.total() < self._most

        if free():
            return
        if self._waiting[tenant] >= self._share:
            raise self._busy(tenant)
        self._waiting[tenant] += 1
        try:
            if not self._changed.wait_for(free, self._patience):
                raise self._busy(tenant)
        finally:
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant]

    def _busy(self, tenant: str) -> Problem:
        own = self._taken[tenant] >= self._share
        count, whose = (self._share, "of your") if own else (self._most, "other")
        return Problem(
            503,
            "busy",
            f"{count} {whose} requests are inspecting models or datasets, which is the limit.",
            remedy="Retry shortly.",
            headers={"Retry-After": str(_RETRY_SECONDS)},
        )
