"""The synchronous client."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from qpruner_client import calls
from qpruner_client.connection import Connection, Server
from qpruner_client.datasets import Datasets
from qpruner_client.jobs import Jobs
from qpruner_client.models import Readiness
from qpruner_client.retries import Retries
from qpruner_client.uploaded_models import Models
from qpruner_client.webhooks import Webhooks


class Client:
    """A QPruner service: ``client.jobs``, ``client.datasets``, ``client.models`` and ``client.webhooks``.

    Thread-safe. Close it, or use it in a ``with`` statement.

    Args:
        server: address of the service; default ``QPRUNER_SERVER``, else http://127.0.0.1:8000.
        api_key: default ``QPRUNER_API_KEY``; needed on any address but loopback.
        timeout: seconds for the next part of a response.
        retries: policy for repeating requests that were temporarily refused, or whose connection broke.
    """

    def __init__(
        self,
        server: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: Retries | None = None,
    ) -> None:
        self._connection = Connection(Server.of(server, api_key, timeout, retries or Retries()))
        self.jobs = Jobs(self._connection)
        self.datasets = Datasets(self._connection)
        self.models = Models(self._connection)
        self.webhooks = Webhooks(self._connection)

    @property
    def server(self) -> str:
        """The address of the service."""
        return self._connection.server.url

    def readiness(self) -> Readiness:
        """Whether each part of the service is ready."""
        return self._connection.send(calls.readiness())

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
