"""The trials of one attempt's search, of which its own child and other workers each take the next free one.

Others are told once what they need lies in the store. Until then, and where nobody comes, the child measures them all.
"""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.broker import Broker, BrokerUnavailableError
from app.jobs import trial_work
from app.jobs.lease import Lease, LeaseLost, hold
from worker.patience import Stopped
from worker.protocol import TrialLoss, TrialMeasured, Trials, TrialsOffered, TrialSpec, TrialTurn, TrialWanted
from worker.reused_stages import Write
from worker.stage_files import Transfer
from worker.store_keys import fits_prefix

_LOG = logging.getLogger(__name__)
FITS = "fits"
FITS_LIST = "list.json"
"""Object below :func:`fits_prefix` with the paths of the others; put when they are there."""


class TrialBoard:
    """Answers of :class:`worker.job_run.JobRun` to its child's messages about trials.

    ``write`` runs a transaction, ``put`` stores a file; both try until they succeed or the run is stopped.
    """

    def __init__(self, lease: Lease, stages: Path, write: Write, put: Transfer, broker: Broker) -> None:
        self._lease = lease
        self._stages = stages
        self._write = write
        self._put = put
        self._broker = broker
        self._open: dict[int, TrialSpec] = {}
        self._told: set[int] = set()
        self._published = self._busy = False
        self._lock = threading.Lock()
        self._publishing: threading.Thread | None = None
        self._stored: list[str] = []

    def hear(self, line: Trials) -> TrialTurn | None:
        """Take note of a line; the turn that is the answer to it, if it wants one."""
        if isinstance(line, TrialsOffered):
            self._offer(line)
        elif isinstance(line, TrialMeasured):
            self._measured(line)
        elif isinstance(line, TrialWanted):
            return self._turn()
        return None

    def close(self) -> None:
        """Wait for what is under way, once the run is over or told to stop."""
        if self._publishing is not None:
            self._publishing.join()

    def _offer(self, offered: TrialsOffered) -> None:
        with self._lock:
            self._open = {trial.index: trial for trial in offered.trials}
            self._told, self._published = set(), False
            if self._busy:  # with the store; what is open by then is what is published
                return
            self._busy = True
        self._publishing = threading.Thread(
            target=self._publish, args=(offered.machine,), name=f"{self._lease.job_id}-trials", daemon=True
        )
        self._publishing.start()

    def _publish(self, machine: str) -> None:
        try:
            self._store_fits()
            with self._lock:
                trials = {index: trial.model_dump(mode="json") for index, trial in self._open.items()}
                if len(trials) > 1:
                    self._write(lambda session: self._write_rows(session, machine, trials))
                    self._published = True
                self._busy = False
            if len(trials) > 1:
                self._broker.ask_for_help(self._lease.job_id, len(trials))
        except (Stopped, LeaseLost, BrokerUnavailableError) as error:
            _LOG.info("%s: nobody is asked to help with its trials: %s", self._lease.job_id, error)
        except Exception:  # noqa: BLE001 - the search goes on without help
            _LOG.exception("%s: nobody is asked to help with its trials", self._lease.job_id)

    def _write_rows(self, session: Session, machine: str, trials: dict[int, dict[str, Any]]) -> None:
        hold(session, self._lease)
        trial_work.offer(session, self._lease, machine, trials)

    def _store_fits(self) -> None:
        """Put the fits that are not stored yet, and a list of all of them."""
        root = self._stages / FITS
        paths = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.safetensors"))
        missing = [path for path in paths if path not in self._stored]
        for path in missing:
            self._put(fits_prefix(self._lease) + path, root / path)
        if missing:
            self._stored = paths
            listed = root / FITS_LIST
            listed.write_text(json.dumps(paths))
            self._put(fits_prefix(self._lease) + FITS_LIST, listed)

    def _turn(self) -> TrialTurn:
        with self._lock:
            if self._published:
                return self._turn_of_many()
            if not self._open:
                return TrialTurn(measure=None)
            return TrialTurn(measure=self._open.pop(min(self._open)))

    def _turn_of_many(self) -> TrialTurn:
        waiting = [index for index in self._open if index not in self._told]

        def look(session: Session) -> tuple[dict[int, dict[str, Any]], dict[str, Any] | None]:
            found = trial_work.measured_by_others(session, self._lease, waiting)
            own = trial_work.take_own(session, self._lease)
            return found, None if own is None else own.trial

        found, own = self._write(look)
        self._told |= found.keys()
        return TrialTurn(
            measure=None if own is None else TrialSpec.model_validate(own),
            measured={index: TrialLoss.model_validate(loss) for index, loss in found.items()},
        )

    def _measured(self, line: TrialMeasured) -> None:
        with self._lock:
            if self._published and line.index in self._open:
                self._told.add(line.index)
                loss, lease = line.loss.model_dump(mode="json"), self._lease
                self._write(lambda session: trial_work.finish(session, lease, line.index, lease.token, loss))
