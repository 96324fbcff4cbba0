"""Submits jobs while parts go down, as a program does that uses the client: it tries until it has an answer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from bench.chaos import child
from bench.load.parts import Served
from qpruner_client import Client, ClientError, Retries
from tests.worker.installation import TINY

_PATIENT = Retries(attempts=10_000, first_delay=0.1, longest_delay=1.0, patience=3600.0)
_ALIKE = 3
"""Jobs of one seed, which can take over one another's stages."""


@dataclass
class Submits:
    """Ids of the jobs by their key, as they were acknowledged, and answers that no part's absence explains."""

    jobs: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Submitter(threading.Thread):
    """Submits ``count`` jobs over ``seconds``, of which ``real`` go through the real pipeline."""

    def __init__(self, service: Served, count: int, real: int, seconds: float) -> None:
        super().__init__(name="submitter", daemon=True)
        self.submits = Submits()
        self._service = service
        self.count = count
        self._every = max(1, count // real) if real else 0
        self._seconds = seconds

    def run(self) -> None:
        """Submit them all."""
        begin = time.monotonic()
        with Client(self._service.url, retries=_PATIENT) as client:
            for number in range(self.count):
                time.sleep(max(0.0, begin + self._seconds * number / self.count - time.monotonic()))
                self._submit(client, number)

    def _submit(self, client: Client, number: int) -> None:
        key = f"chaos-{number}"
        while True:
            try:
                job = client.jobs.create(idempotency_key=key, **self._body(number))
            except ClientError as error:
                self.submits.faults.append(f"{key}: {error}")
                time.sleep(0.5)
            else:
                self.submits.jobs[key] = job.id
                return

    def _body(self, number: int) -> dict[str, Any]:
        sources = self._service.sources
        is_real = self._every and number % self._every == 0
        model = sources / (child.REAL if is_real else child.SCRIPTED)
        return TINY | {"model": str(model), "dataset": str(sources / "text.txt"), "seed": number // _ALIKE}
