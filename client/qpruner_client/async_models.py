"""Uploaded models, asynchronously: the same names as in :mod:`qpruner_client.uploaded_models`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from qpruner_client import calls
from qpruner_client.connection import AsyncConnection, Connection
from qpruner_client.model_upload import Look, upload_model
from qpruner_client.models import ModelSummary, ModelView
from qpruner_client.upload import CONNECTIONS, OnBytes


class AsyncModels:
    """All uploaded models of the tenant."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def upload(
        self,
        path: Path | str,
        *,
        name: str | None = None,
        wait: bool = True,
        connections: int = CONNECTIONS,
        on_bytes: OnBytes | None = None,
    ) -> ModelView:
        """:meth:`qpruner_client.uploaded_models.Models.upload` in threads; cancelling the task stops them."""
        stop = threading.Event()

        def run() -> ModelView:
            connection = Connection(self._connection.server)
            try:
                return upload_model(
                    connection, Path(path), name, wait=wait, connections=connections, on_bytes=on_bytes, stop=stop
                )
            finally:
                connection.close()

        try:
            return await asyncio.to_thread(run)
        except asyncio.CancelledError:
            stop.set()
            raise

    async def wait(self, model_id: str, *, timeout: float | None = None) -> ModelView:
        """See :meth:`qpruner_client.uploaded_models.Models.wait`."""
        look = Look(model_id, timeout)
        while (view := await self.get(model_id)).status == "checking":
            await asyncio.sleep(look.pause())
        return look.result(view)

    async def list(self, *, limit: int | None = None) -> AsyncIterator[ModelSummary]:
        """Models, newest first; further pages are requested as needed; at most ``limit``."""
        cursor, left = None, limit
        while left is None or left > 0:
            page = await self._connection.send(calls.list_models(cursor, min(left or 100, 100)))
            for model in page.models[:left]:
                yield model
            left = None if left is None else left - len(page.models)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def get(self, model_id: str) -> ModelView:
        """The model. Raises :class:`NotFoundError`."""
        return await self._connection.send(calls.get_model(model_id))

    async def delete(self, model_id: str) -> None:
        """Delete it; refused while an unfinished job uses it."""
        await self._connection.send(calls.delete_model(model_id))
