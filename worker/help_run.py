"""Help with the trials of a job that another worker runs."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from pathlib import Path

from sqlalchemy import select

from app.database import read_only
from app.jobs import trial_work
from app.jobs.lease import Lease
from app.jobs.models import Job, StageResult
from app.jobs.queue import QueuePolicy, next_job
from qpruner_core.config import parse_config
from worker.child_process import ChildProcess
from worker.job_run import Parts
from worker.model_files import ModelFiles
from worker.patience import Stopped
from worker.protocol import (
    ChildRequest,
    HelperReady,
    Line,
    RunError,
    RunResult,
    TrialMeasured,
    TrialSpec,
    TrialTurn,
    TrialWanted,
)
from worker.scratch import Scratch, locked_scratch
from worker.stage_files import fetch_stage
from worker.store_keys import fits_prefix
from worker.trial_board import FITS, FITS_LIST
from worker.uploads import fetch_model, fetch_uploads
from worker.watch import Watch

_LOG = logging.getLogger(__name__)
_IDLE_SECONDS = 20.0
"""How long a helper stays without a trial, or as long as two took: the next batch may come."""
_STAGES = ("prune", "score")


class HelpRun:
    """A child that measures trials of ``job_id``, one after the other, each by a lease of its own."""

    def __init__(self, parts: Parts, job_id: str, owner: str, stopping: threading.Event) -> None:
        self._parts = parts
        self._job_id = job_id
        self._owner = owner
        self._stopping = stopping
        self._reading = read_only(parts.sessions)
        self._machine: str | None = None
        self._taken: tuple[int, str] | None = None  # a trial and the token of its lease
        self._wants = self._alike = False
        self._idle_since = time.monotonic()
        self._patience = _IDLE_SECONDS
        self._renew_at = 0.0

    def run(self) -> None:
        """Help for as long as there is something to help with."""
        lease = self._lease()
        if lease is None:
            return
        name = f"{self._job_id}.helper-{os.getpid()}"
        with locked_scratch(self._parts.settings, name, lambda: False) as scratch:
            if scratch is None:
                return
            try:
                scratch.prepare()
                if self._fetch(lease, scratch):
                    self._serve(lease, scratch)
            finally:
                scratch.delete()

    def _lease(self) -> Lease | None:
        """That of the worker that runs the job, to know its attempt by; ``None`` if there is nothing to help with."""
        with self._reading() as session:
            job = session.get(Job, self._job_id)
            if job is None or job.status != "running" or job.lease_token is None:
                return None
            lease = Lease(
                job.id, job.tenant, job.lease_token, job.lease_owner or "", job.attempt,
                self._parts.settings.lease_seconds, job.config, job.deadline_at,
            )  # fmt: skip
            return lease if trial_work.any_open(session, lease) else None

    def _fetch(self, lease: Lease, scratch: Scratch) -> bool:
        """Whether the stages before the search lie in the scratch folder now."""
        store = self._parts.store
        with self._reading() as session:
            query = select(StageResult).where(StageResult.job_id == lease.job_id, StageResult.stage.in_(_STAGES))
            results = session.scalars(query).all()
        found = [fetch_stage(result, scratch.stages / result.stage, store.get_file) for result in results]
        if found != [True] * len(_STAGES):
            return False
        try:
            listed = scratch.stages / FITS / FITS_LIST
            listed.parent.mkdir(exist_ok=True)
            store.get_file(fits_prefix(lease) + FITS_LIST, listed)
            for path in json.loads(listed.read_text()):
                target = _inside(scratch.stages / FITS, path)
                target.parent.mkdir(exist_ok=True)
                store.get_file(fits_prefix(lease) + path, target)
        except FileNotFoundError:
            _LOG.info("%s: its fits are not in the store any more", lease.job_id)  # the child makes what it lacks
        return True

    def _serve(self, lease: Lease, scratch: Scratch) -> None:
        config = parse_config(dict(lease.config))
        uploads = fetch_uploads(self._parts.sessions, self._parts.store, lease, config, scratch.uploads)
        files = ModelFiles(self._parts.settings, self._parts.store)
        uploads |= fetch_model(self._parts.sessions, files, lease, config, scratch.uploads, self._check_stop)
        policy = self._parts.settings.source_policy.model_copy(update={"uploads": uploads})
        request = ChildRequest(
            config=config, policy=policy, output=scratch.output, work_dir=scratch.stages, trials="of_another"
        )
        child = ChildProcess(
            request, self._parts.environment(scratch.temporary), command=self._parts.command,
            keep_open=(scratch.lock,),
        )  # fmt: skip
        _LOG.info("%s: helping with its trials", self._job_id)
        watch = Watch.of(self._parts.settings)
        try:
            while self._listen(lease, child) and self._may_go_on(lease) and watch.look(child.pid, None) is None:
                pass
        finally:
            child.kill()
            self._give_back(lease)
            _LOG.info("%s: no longer helping", self._job_id)

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise Stopped("helping")

    def _listen(self, lease: Lease, child: ChildProcess) -> bool:
        """Hear a line of the child, and give it a trial if it waits for one; false once it has ended."""
        try:
            line = child.lines.get(timeout=self._parts.settings.poll_seconds)
        except queue.Empty:
            pass
        else:
            if line is None or isinstance(line, (RunError, RunResult)):
                _LOG.info("%s: the process that helps has ended: %s", self._job_id, child.log_tail(400))
                return False
            self._hear(lease, line)
        if self._machine is not None and not self._is_alike(lease, self._machine):
            _LOG.info("%s: this machine computes otherwise", self._job_id)
            return False
        if self._wants and self._machine is not None:
            self._give(lease, child, self._machine)
        return True

    def _hear(self, lease: Lease, line: Line) -> None:
        if isinstance(line, HelperReady):
            self._machine = line.machine
        elif isinstance(line, TrialWanted):
            self._wants, self._idle_since = True, time.monotonic()
        elif isinstance(line, TrialMeasured) and self._taken is not None:
            (index, token), self._taken = self._taken, None
            loss = line.loss.model_dump(mode="json")
            self._patience = max(self._patience, 2 * line.loss.seconds)
            with self._parts.sessions.begin() as session:
                trial_work.finish(session, lease, index, token, loss)

    def _is_alike(self, lease: Lease, machine: str) -> bool:
        if not self._alike:
            with self._reading() as session:
                self._alike = trial_work.machine_of(session, lease) == machine
        return self._alike

    def _give(self, lease: Lease, child: ChildProcess, machine: str) -> None:
        with self._reading() as session:  # most often there is none, and nobody needs to wait for that
            if not trial_work.any_open(session, lease):
                return
        with self._parts.sessions.begin() as session:
            work = trial_work.take(session, lease, machine, self._owner)
        if work is not None:
            assert work.lease_token is not None
            self._taken, self._wants = (work.index, work.lease_token), False
            self._renew_at = time.monotonic() + lease.seconds / 3
            child.answer(TrialTurn(measure=TrialSpec.model_validate(work.trial)))

    def _may_go_on(self, lease: Lease) -> bool:
        """Whether the job is in the same search, there is or soon may be work, and no job waits to be run here."""
        idle = time.monotonic() - self._idle_since > self._patience
        if self._stopping.is_set() or (self._wants and idle):
            return False
        if self._taken is not None and time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + lease.seconds / 3
            with self._parts.sessions.begin() as session:
                if not trial_work.renew(session, lease, *self._taken):
                    return False
        with self._reading() as session:
            same = (Job.id == lease.job_id, Job.lease_token == lease.token, Job.status == "running")
            searching = session.scalar(
                select(Job.id).where(*same, Job.stage == "allocate", Job.cancel_requested_at.is_(None))
            )
            waiting = session.scalar(select(Job.id).where(Job.status == "queued").limit(1))
        return searching is not None and (waiting is None or not self._is_next())

    def _is_next(self) -> bool:
        """Whether the limits let one of the queued jobs run."""
        with self._parts.sessions() as session:
            found = next_job(session, QueuePolicy.of(self._parts.settings))
            session.rollback()  # it was not taken
        return found is not None

    def _give_back(self, lease: Lease) -> None:
        if self._taken is None:
            return
        with self._parts.sessions.begin() as session:
            trial_work.release(session, lease, *self._taken)


def _inside(folder: Path, path: str) -> Path:
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError(f"{path!r} lies outside of its folder.")
    return target
