"""Datasets, synchronously."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qpruner_client import calls
from qpruner_client.connection import Connection
from qpruner_client.models import DatasetView


class Datasets:
    """All datasets of the tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(self, path: Path | str, *, filename: str | None = None) -> DatasetView:
        """Upload a file, which is checked before it is accepted. Use its ``id`` as the ``dataset`` of a job.

        Raises:
            InvalidRequestError: it is not a valid dataset, or too large.
        """
        file = Path(path)
        return self._connection.send(calls.upload_dataset(filename or file.name, lambda: file.open("rb")))

    def list(self, *, limit: int | None = None) -> Iterator[DatasetView]:
        """Datasets, newest first; further pages are requested as needed; at most ``limit``."""
        cursor, left = None, limit
        while left is None or left > 0:
            page = self._connection.send(calls.list_datasets(cursor, min(left or 100, 100)))
            yield from page.datasets[:left]
            left = None if left is None else left - len(page.datasets)
            cursor = page.next_cursor
            if cursor is None:
                return

    def get(self, dataset_id: str) -> DatasetView:
        """The dataset. Raises :class:`NotFoundError`."""
        return self._connection.send(calls.get_dataset(dataset_id))

    def delete(self, dataset_id: str) -> None:
        """Delete it; refused while an unfinished job uses it."""
        self._connection.send(calls.delete_dataset(dataset_id))
