"""One attempt at a job, from its scratch folder to its last row; it continues until it is stopped.

It runs in a thread beside the one that keeps the lease, so that a long upload never lets the lease expire.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.broker import Broker
from app.database import utc_now
from app.jobs.history import append_event
from app.jobs.lease import Lease, LeaseLost, cancel, fail, give_up, hold, succeed
from app.jobs.models import Artifact, StageResult
from app.settings import Settings
from app.store import ArtifactStore, StoreUnavailableError
from app.traces import Traces
from qpruner_core.config import parse_config
from qpruner_core.errors import QPrunerError
from qpruner_core.events import Event, RunWarning, StageFinished
from qpruner_core.measure.llama_cpp_programs import DIRECTORY as LLAMA_CPP_DIRECTORY
from qpruner_core.measure.vllm_python import PYTHON as VLLM_PYTHON
from worker.artifacts import ArtifactFile, pack_artifacts
from worker.attempt_log import AttemptLog
from worker.child_process import CHILD_COMMAND, ChildProcess, child_environment
from worker.model_files import ModelFiles
from worker.patience import Stopped, is_away, persist
from worker.protocol import ChildRequest, Line, RunError, RunResult, StageAnswer, StageWanted, Trials
from worker.recording import ProgressThrottle, record_events
from worker.reused_stages import ReusedStages
from worker.scratch import Scratch, locked_scratch
from worker.stage_files import fetch_stage, upload_stage
from worker.store_keys import artifact_key, attempt_prefix, fits_prefix, stage_prefix
from worker.told_lines import ToldLines
from worker.trial_board import TrialBoard
from worker.uploads import fetch_model, fetch_uploads

_LOG = logging.getLogger(__name__)
_EXIT_SECONDS = 20.0  # between a child's last line and its end
_LOG_SECONDS = 2.0  # between two reads of the child's output
_Result = TypeVar("_Result")
_WAITING = RunWarning(message="The store is unreachable; the run waits for it.")


@dataclass(frozen=True)
class Parts:
    """Dependencies of a run."""

    settings: Settings
    sessions: sessionmaker[Session]
    store: ArtifactStore
    command: Sequence[str] = CHILD_COMMAND
    traces: Traces = field(default_factory=Traces)
    broker: Broker | None = None

    @property
    def shares_trials(self) -> bool:
        """Whether idle workers may measure trials of another's job."""
        return self.settings.share_trials and self.broker is not None

    def environment(self, temporary: Path) -> dict[str, str]:
        """Environment of a child."""
        settings = self.settings
        environment = child_environment(os.environ, settings.worker_threads, temporary)
        if settings.llama_cpp is not None:
            environment[LLAMA_CPP_DIRECTORY] = str(settings.llama_cpp.resolve())
        if settings.vllm_python is not None:  # its link tells Python about its environment
            environment[VLLM_PYTHON] = str(settings.vllm_python.absolute())
        return environment


class JobRun:
    """The attempt of ``lease``. ``settled`` is set once everything is decided.

    ``touched``: prefixes of the store below which there may be files that no row names at the end.
    ``on_line`` is called with each line of the child as it arrives.
    """

    def __init__(self, lease: Lease, parts: Parts, on_line: Callable[[Line], None] = lambda line: None) -> None:
        self.settled = threading.Event()
        self.touched: set[str] = set()
        self._lease = lease
        self._parts = parts
        self._on_line = on_line
        self._stop = threading.Event()
        self._child: ChildProcess | None = None
        self._child_lock = threading.Lock()
        self._board: TrialBoard | None = None
        self._stored: set[str] = set()
        self._throttle = ProgressThrottle()
        self._told = ToldLines()
        self._log: AttemptLog | None = None

    @property
    def child_pid(self) -> int | None:
        """The child's process id while it runs."""
        with self._child_lock:
            return None if self._child is None or self._child.has_ended else self._child.pid

    @property
    def quiet_since(self) -> float | None:
        """Time (``time.monotonic()``) since which the run only waits for the child's next line, if it does."""
        return self._told.quiet_since

    def write_log(self, session: Session) -> None:
        """Write the child's output, also after :meth:`stop`. Raises :class:`LeaseLost`."""
        if self._log is not None:
            self._log.write(session)

    def run(self) -> None:
        """Run the whole attempt. Every outcome is written to the job, unless the attempt was stopped or lost the
        job."""
        try:
            self._attempt()
        except (Stopped, LeaseLost) as error:
            _LOG.info("%s: left off: %s", self._lease.job_id, error)
        except Exception:  # noqa: BLE001 - the lease keeper waits for this thread
            _LOG.exception("%s: unexpected error in the worker", self._lease.job_id)
        finally:
            self.stop()
            if self._board is not None:
                self._board.close()
            self.settled.set()

    def stop(self) -> None:
        """End the attempt: kill the child, and retry nothing. Nothing more is written to the job."""
        self._stop.set()
        with self._child_lock:
            child = self._child
        if child is not None:
            child.kill()

    def _attempt(self) -> None:
        try:
            with locked_scratch(self._parts.settings, self._lease.job_id, self._wait) as scratch:
                if scratch is not None:
                    self._work(scratch)
        except QPrunerError as error:
            told = RunError.of(error).model_dump(exclude={"type"})
            self._settle(lambda session: fail(session, self._lease, told))
        except (Stopped, LeaseLost):
            raise
        except Exception:  # noqa: BLE001 - the job is told, and the log says more
            _LOG.exception("%s: unexpected error in the worker", self._lease.job_id)
            reason = f"Unexpected error in the worker; see {_log_now()}."
            self._settle(lambda session: give_up(session, self._lease, code="worker_fault", reason=reason))

    def _work(self, scratch: Scratch) -> None:
        scratch.prepare()
        self._fetch_stages(scratch)
        child = self._start_child(self._request(scratch), scratch)
        log = self._log = AttemptLog(self._lease, child)
        final = self._follow(child, log, scratch)
        code = child.finish(_EXIT_SECONDS)
        self._keep_log(log, after_seconds=0)
        if isinstance(final, RunResult):
            self._succeed(final, scratch)
        elif isinstance(final, RunError):
            self._settle(lambda session: fail(session, self._lease, final.model_dump(exclude={"type"})))
        elif not self._stop.is_set():
            self._crashed(child, code)

    def _fetch_stages(self, scratch: Scratch) -> None:
        for result in self._write(self._stage_results):
            if fetch_stage(result, scratch.stages / result.stage, self._get):
                self._stored.add(result.stage)
            else:
                self.touched.add(result.store_prefix)  # its row names the place when the upload is repeated

    def _stage_results(self, session: Session) -> list[StageResult]:
        hold(session, self._lease)
        return list(session.scalars(select(StageResult).where(StageResult.job_id == self._lease.job_id)))

    def _request(self, scratch: Scratch) -> ChildRequest:
        config = parse_config(dict(self._lease.config))
        uploads = self._persist(
            lambda: fetch_uploads(self._parts.sessions, self._parts.store, self._lease, config, scratch.uploads),
            "fetching the dataset",
        )
        files = ModelFiles(self._parts.settings, self._parts.store)
        uploads |= self._persist(
            lambda: fetch_model(self._parts.sessions, files, self._lease, config, scratch.uploads, self._check_stop),
            "fetching the model",
        )
        policy = self._parts.settings.source_policy.model_copy(update={"uploads": uploads})
        return ChildRequest(
            config=config, policy=policy, output=scratch.output, work_dir=scratch.stages,
            trials="shared" if self._parts.shares_trials else "alone",
        )  # fmt: skip

    def _start_child(self, request: ChildRequest, scratch: Scratch) -> ChildProcess:
        environment = self._parts.environment(scratch.temporary)
        with self._child_lock:
            if self._stop.is_set():
                raise Stopped("starting the child")
            self._child = ChildProcess(
                request, environment, command=self._parts.command, keep_open=(scratch.lock,), on_line=self._on_line
            )  # fmt: skip
        return self._child

    def _follow(self, child: ChildProcess, log: AttemptLog, scratch: Scratch) -> RunResult | RunError | None:
        """Record the child's events, and bring its stages, until its last line; ``None`` if it ended without."""
        while True:
            told: list[Event] = []
            for line in self._told.so_far(child.lines, _LOG_SECONDS):
                if line is None or isinstance(line, (RunResult, RunError)):
                    self._record(told)
                    return line
                if isinstance(line, StageWanted):
                    self._record(told)
                    told = []
                    if line.is_waited_for():
                        child.answer(StageAnswer(found=None, key=line.key))
                        child.answer(StageAnswer(found=self._bring(line, scratch), key=line.key))
                    continue
                if isinstance(line, Trials):
                    self._hear(line, child, scratch)
                    continue
                if isinstance(line, StageFinished) and not (line.resumed and line.stage in self._stored):
                    self._record(told)
                    told = []
                    self._store_stage(line)
                if self._throttle.admits(line):
                    told.append(line)
            self._record(told)
            with self._told.not_listening():
                self._keep_log(log, after_seconds=_LOG_SECONDS)

    def _record(self, events: list[Event]) -> None:
        if events:
            self._write(lambda session: record_events(session, self._lease, events))

    def _keep_log(self, log: AttemptLog, *, after_seconds: float) -> None:
        if log.is_due(after_seconds):
            self._write(log.write)

    def _bring(self, wanted: StageWanted, scratch: Scratch) -> bool:
        """Whether the stage that the child wants is in its work folder now, copied from another job."""
        self.touched |= {attempt_prefix(self._lease), stage_prefix(self._lease, wanted.stage)}
        found = ReusedStages(self._lease, scratch.stages, self._write, self._get, self._put).bring(wanted)
        if found:
            self._stored.add(wanted.stage)
        return found

    def _hear(self, line: Trials, child: ChildProcess, scratch: Scratch) -> None:
        """Answer a child that shares its trials with others."""
        assert self._parts.broker is not None
        if self._board is None:
            self.touched |= {attempt_prefix(self._lease), fits_prefix(self._lease)}
            self._board = TrialBoard(self._lease, scratch.stages, self._write, self._put, self._parts.broker)
        turn = self._board.hear(line)
        if turn is not None:
            child.answer(turn)

    def _store_stage(self, finished: StageFinished) -> None:
        prefix = stage_prefix(self._lease, finished.stage)
        self.touched |= {attempt_prefix(self._lease), prefix}
        upload_stage(Path(finished.directory), [file.path for file in finished.files], prefix, self._put)
        self._stored.add(finished.stage)

    def _succeed(self, final: RunResult, scratch: Scratch) -> None:
        stored: list[ArtifactFile] = []
        self.touched |= {attempt_prefix(self._lease), artifact_key(self._lease, "")}
        for file in pack_artifacts(scratch.output, self._check_stop):
            self._put(artifact_key(self._lease, file.name), file.path)
            stored.append(file)
        self._settle(lambda session: self._record_success(session, final, stored))

    def _record_success(self, session: Session, final: RunResult, files: list[ArtifactFile]) -> None:
        job = hold(session, self._lease)
        if job.cancel_requested_at is not None:
            cancel(session, self._lease)
            return
        for file in files:
            session.merge(
                Artifact(
                    job_id=job.id, name=file.name, key=artifact_key(self._lease, file.name), bytes=file.bytes,
                    sha256=file.sha256, format=file.format, created_at=utc_now(),
                )
            )  # fmt: skip
        succeed(session, self._lease, final.report.model_dump(mode="json"))

    def _crashed(self, child: ChildProcess, code: int) -> None:
        tail = child.log_tail()
        _LOG.error("%s: the child ended with %d and no last line:\n%s", self._lease.job_id, code, tail)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (the system may have run out of memory)" if code == -signal.SIGKILL else ""
        reason = f"The job's process {how}{hint}; see {_log_now()}."
        self._settle(lambda session: give_up(session, self._lease, code="worker_crashed", reason=reason))

    def _settle(self, write: Callable[[Session], None]) -> None:
        self._write(write)
        self.settled.set()

    def _write(self, action: Callable[[Session], _Result]) -> _Result:
        def transaction() -> _Result:
            with self._parts.sessions.begin() as session:
                return action(session)

        return self._persist(transaction, "writing to the database")

    def _put(self, key: str, path: Path) -> None:
        self._persist(lambda: self._parts.store.put_file(key, path), f"storing {key}")

    def _get(self, key: str, path: Path) -> None:
        self._persist(lambda: self._parts.store.get_file(key, path), f"fetching {key}")

    def _persist(self, action: Callable[[], _Result], what: str) -> _Result:
        return persist(action, f"{self._lease.job_id}: {what}", self._stop, on_outage=self._tell_of_outage)

    def _tell_of_outage(self, error: Exception) -> bool:
        """Record that the job waits for the store. Waiting for the database cannot be recorded."""
        if not isinstance(error, StoreUnavailableError):
            return False
        try:
            with self._parts.sessions.begin() as session:
                hold(session, self._lease)
                append_event(session, self._lease.job_id, "warning", _WAITING.model_dump(exclude={"type"}))
        except SQLAlchemyError as unwritten:
            if not is_away(unwritten):
                raise
            return False
        return True

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped("the run")

    def _wait(self) -> bool:
        return not self._stop.wait(0.1)


def _log_now() -> str:
    return f"the worker's log of {utc_now().isoformat(timespec='seconds')}"
