"""Datasets, asynchronously: the same names as in :mod:`qpruner_client.datasets`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from qpruner_client import calls
from qpruner_client.connection import AsyncConnection
from qpruner_client.models import DatasetView


class AsyncDatasets:
    """All datasets of the tenant."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def upload(self, path: Path | str, *, filename: str | None = None) -> DatasetView:
        """Upload a file, which is checked before it is accepted. Use its ``id`` as the ``dataset`` of a job.

        Raises:
            InvalidRequestError: it is not a valid dataset, or too large.
        """
        file = Path(path)
        return await self._connection.send(calls.upload_dataset(filename or file.name, lambda: file.open("rb")))

    async def list(self, *, limit: int | None = None) -> AsyncIterator[DatasetView]:
        """Datasets, newest first; further pages are requested as needed; at most ``limit``."""
        cursor, left = None, limit
        while left is None or left > 0:
            page = await self._connection.send(calls.list_datasets(cursor, min(left or 100, 100)))
            for dataset in page.datasets[:left]:
                yield dataset
            left = None if left is None else left - len(page.datasets)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def get(self, dataset_id: str) -> DatasetView:
        """The dataset. Raises :class:`NotFoundError`."""
        return await self._connection.send(calls.get_dataset(dataset_id))

    async def delete(self, dataset_id: str) -> None:
        """Delete it; refused while an unfinished job uses it."""
        await self._connection.send(calls.delete_dataset(dataset_id))
