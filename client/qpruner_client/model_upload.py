"""Uploads a model: reads, announces, sends and completes its files, and waits for the service's check."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qpruner_client import calls
from qpruner_client.connection import Connection
from qpruner_client.errors import NotFoundError, UploadError, UploadFailedError, WaitTimeoutError
from qpruner_client.local_models import LocalFile, find_files, read_files
from qpruner_client.models import ModelSummary, ModelView, PartsView
from qpruner_client.upload import OnBytes, Upload

_FIRST_LOOK, _LONGEST_LOOK = 0.2, 3.0
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def upload_model(
    connection: Connection, path: Path, name: str | None, *, wait: bool, connections: int, on_bytes: OnBytes | None,
    stop: threading.Event,
) -> ModelView:  # fmt: skip
    """See :meth:`qpruner_client.uploaded_models.Models.upload`; ends with an :class:`UploadError` once ``stop`` is set,
    and keeps the sent parts for the next time."""
    place = path.expanduser().resolve()
    files = read_files(find_files(place), _stopper(stop))
    view = _begin(connection, name or (place.stem if place.is_file() else place.name), files)

    def missing() -> PartsView:
        return connection.send(calls.list_model_parts(view.id))

    Upload(connection.server, files, missing, connections=connections, on_bytes=on_bytes, stop=stop).run(
        view.upload or missing()
    )
    completed = connection.send(calls.complete_model(view.id))
    return _checked(connection, view.id, stop) if wait else completed


class Look:
    """Polls a model until it is checked."""

    def __init__(self, model_id: str, timeout: float | None) -> None:
        self._model_id = model_id
        self._timeout = timeout
        self._until = None if timeout is None else time.monotonic() + timeout
        self._pause = _FIRST_LOOK

    def pause(self) -> float:
        """Seconds until the next poll. Raises :class:`WaitTimeoutError` once the time is over."""
        if self._until is not None and time.monotonic() > self._until:
            raise WaitTimeoutError(
                f"The model {self._model_id} has not been checked within {self._timeout:.0f} s.",
                remedy="A worker does that: see readiness().",
            )
        self._pause = min(_LONGEST_LOOK, self._pause * 1.5)
        return self._pause

    def result(self, view: ModelView) -> ModelView:
        """``view``, unless the model has failed: that raises :class:`UploadFailedError`."""
        if view.status == "failed":
            raise UploadFailedError(view)
        return view


def _checked(connection: Connection, model_id: str, stop: threading.Event) -> ModelView:
    look = Look(model_id, None)
    while (view := connection.send(calls.get_model(model_id))).status == "checking":
        if stop.wait(look.pause()):
            raise _stopped()
    return look.result(view)


def _begin(connection: Connection, name: str, files: Sequence[LocalFile]) -> ModelView:
    """An unfinished upload of the same files, or a new one."""
    wanted = {(file.name, file.bytes, file.sha256) for file in files}
    total = sum(file.bytes for file in files)
    for one in _unfinished(connection):
        if one.bytes != total:
            continue
        try:
            found = connection.send(calls.get_model(one.id))
        except NotFoundError:  # it has just expired
            continue
        if found.status == "uploading" and {(file.name, file.bytes, file.sha256) for file in found.files} == wanted:
            return found
    described = [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in files]
    safe = _NOT_IN_NAMES.sub("-", name).strip(".-")[:96] or "model"
    return connection.send(calls.create_model({"name": safe, "files": described}))


def _unfinished(connection: Connection) -> Iterator[ModelSummary]:
    cursor = None
    while True:
        page = connection.send(calls.list_models(cursor, 100))
        yield from (one for one in page.models if one.status == "uploading")
        cursor = page.next_cursor
        if cursor is None:
            return


def _stopper(stop: threading.Event) -> Callable[[], None]:
    def check() -> None:
        if stop.is_set():
            raise _stopped()

    return check


def _stopped() -> UploadError:
    return UploadError("The upload was stopped.", remedy="Run it again to resume.")
