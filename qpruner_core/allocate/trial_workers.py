"""Trials measured by several processes in parallel, each with its own model.

Modules are fitted at their precisions once, before the processes start, and every process maps the same files into
memory. The proposals of a batch are independent, so the search takes the same course as with one process.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType

import torch

from qpruner_core.allocate.objectives import make_objective
from qpruner_core.allocate.trial_process import begin
from qpruner_core.compute.config import Compute
from qpruner_core.compute.products import products_in
from qpruner_core.config import CompressionConfig
from qpruner_core.data import PreparedData
from qpruner_core.errors import QPrunerError
from qpruner_core.events import CancelToken, ignore_event
from qpruner_core.models import ModelSource
from qpruner_core.randomness import seed_everything
from qpruner_core.resources import best_device
from qpruner_core.search.trial import Proposal, TrialMeasurement
from qpruner_core.stage import RunPlan, StageContext
from qpruner_core.stage_store import StageStore
from qpruner_core.threads import starting_processes

_LOOK_SECONDS = 0.2
"""Seconds between checks for cancellation."""


@dataclass(frozen=True)
class _Run:
    """A :class:`StageContext` that can be sent to another process."""

    config: CompressionConfig
    source: ModelSource
    dataset_sha256: str
    plan: RunPlan
    data: PreparedData
    root: Path
    compute: Compute

    @classmethod
    def of(cls, context: StageContext) -> _Run:
        return cls(
            context.config,
            context.source,
            context.dataset_sha256,
            context.plan,
            context.data(),
            context.store.root,
            context.compute,
        )

    def context(self) -> StageContext:
        return StageContext(
            stage="allocate",
            config=self.config,
            source=self.source,
            dataset_sha256=self.dataset_sha256,
            plan=self.plan,
            data=lambda: self.data,
            store=StageStore(self.root),
            emit=ignore_event,
            cancel=CancelToken(),
            compute=self.compute,
        )


class TrialWorkers(AbstractContextManager["TrialWorkers"]):
    """``allocate.workers`` processes that measure proposals of a run. They end with the ``with`` block or with this
    process.

    Start them from a main module without side effects on import: the new processes import it.
    """

    def __init__(self, context: StageContext) -> None:
        self._cancel = context.cancel
        count = context.config.allocate.workers
        spawn = multiprocessing.get_context("spawn")
        self._workers = {}
        for _ in range(count):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=begin, args=(theirs,), daemon=True, name="qpruner-trials")
            with starting_processes(threads=max(torch.get_num_threads() // count, 1)):
                process.start()
            theirs.close()
            self._workers[ours] = process
        run = _Run.of(context)
        for connection in self._workers:
            self._send(connection, run)

    def measure(self, proposals: Sequence[Proposal]) -> Iterator[TrialMeasurement]:
        """Measurements of ``proposals``, in order.

        Raises:
            CancelledError, and any exception of a process.
        """
        waiting = deque(enumerate(proposals))
        busy: dict[Connection, int] = {}
        done: dict[int, TrialMeasurement] = {}
        for position in range(len(proposals)):
            while position not in done:
                for connection in self._workers:
                    if waiting and connection not in busy:
                        busy[connection], proposal = waiting.popleft()
                        self._send(connection, proposal)
                self._cancel.raise_if_cancelled()
                for ready in wait(list(busy), timeout=_LOOK_SECONDS):
                    assert isinstance(ready, Connection)
                    done[busy.pop(ready)] = self._receive(ready)
            yield done.pop(position)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, process in self._workers.items():
            process.kill()  # it has no state to lose
            process.join()
            connection.close()

    def _send(self, connection: Connection, message: _Run | Proposal) -> None:
        try:
            connection.send(message)
        except OSError as error:
            raise self._death(connection) from error

    def _receive(self, connection: Connection) -> TrialMeasurement:
        try:
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise self._death(connection) from error
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, TrialMeasurement)
        return answer

    def _death(self, connection: Connection) -> QPrunerError:
        process = self._workers[connection]
        process.join()
        return QPrunerError(
            f"A process that measures trials ended unexpectedly (exit code {process.exitcode}).",
            field="allocate.workers",
            remedy="It may have run out of memory: choose fewer workers.",
        )


def answer_proposals(connection: Connection) -> None:
    """Main loop of a worker: build the objective, then measure proposals until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which ends this process
    os.dup2(2, 1)  # keep prints of libraries out of the parent's output
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        context = connection.recv().context()
        seed_everything(context.config.seed, "allocate")
        with products_in(context.compute.dtype, best_device()):
            objective = make_objective(context, lambda done: None)
            while True:
                connection.send(objective(connection.recv()))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is told
        connection.send(_portable(error))


def end_with_parent() -> None:
    """Wait for the parent of this worker process to end, then exit."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """``error``, or an equivalent that can be pickled."""
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - an __init__ may raise anything
        copied = QPrunerError(f"{type(error).__name__}: {error}")
    copied.add_note(traceback.format_exc())
    return copied
