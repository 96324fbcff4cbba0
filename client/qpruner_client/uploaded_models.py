"""Uploaded models, synchronously."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from qpruner_client import calls
from qpruner_client.connection import Connection
from qpruner_client.model_upload import Look, upload_model
from qpruner_client.models import ModelSummary, ModelView
from qpruner_client.upload import CONNECTIONS, OnBytes


class Models:
    """All uploaded models of the tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(
        self,
        path: Path | str,
        *,
        name: str | None = None,
        wait: bool = True,
        connections: int = CONNECTIONS,
        on_bytes: OnBytes | None = None,
    ) -> ModelView:
        """Upload a model in parallel parts. Use its ``id`` as the ``model`` of a job once it is ready.

        Files of a folder that a service does not read are left out. An interrupted upload of the same files resumes.

        Args:
            path: a folder with config.json, tokenizer and safetensors weights, or a GGUF file.
            name: default: that of the folder or file.
            wait: wait until the service has verified and inspected it.
            on_bytes: called with the bytes so far and in all, from the uploading threads.

        Raises:
            UploadError: there is no model at ``path``, or it could not be sent.
            UploadFailedError: the service rejected it.
        """
        stop = threading.Event()
        return upload_model(
            self._connection, Path(path), name, wait=wait, connections=connections, on_bytes=on_bytes, stop=stop
        )

    def wait(self, model_id: str, *, timeout: float | None = None) -> ModelView:
        """The model, once it is ready.

        Raises:
            UploadFailedError: it has failed.
            WaitTimeoutError: ``timeout`` seconds have passed; the service continues.
        """
        look = Look(model_id, timeout)
        while (view := self.get(model_id)).status == "checking":
            time.sleep(look.pause())
        return look.result(view)

    def list(self, *, limit: int | None = None) -> Iterator[ModelSummary]:
        """Models, newest first; further pages are requested as needed; at most ``limit``."""
        cursor, left = None, limit
        while left is None or left > 0:
            page = self._connection.send(calls.list_models(cursor, min(left or 100, 100)))
            yield from page.models[:left]
            left = None if left is None else left - len(page.models)
            cursor = page.next_cursor
            if cursor is None:
                return

    def get(self, model_id: str) -> ModelView:
        """The model. Raises :class:`NotFoundError`."""
        return self._connection.send(calls.get_model(model_id))

    def delete(self, model_id: str) -> None:
        """Delete it; refused while an unfinished job uses it."""
        self._connection.send(calls.delete_model(model_id))
