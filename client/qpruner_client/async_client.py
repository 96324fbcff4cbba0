"""The asynchronous client."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from qpruner_client import calls
from qpruner_client.async_datasets import AsyncDatasets
from qpruner_client.async_jobs import AsyncJobs
from qpruner_client.async_models import AsyncModels
from qpruner_client.async_webhooks import AsyncWebhooks
from qpruner_client.connection import AsyncConnection, Server
from qpruner_client.models import Readiness
from qpruner_client.retries import Retries


class AsyncClient:
    """A QPruner service: ``client.jobs``, ``client.datasets``, ``client.models`` and ``client.webhooks``.

    For one event loop. Close it, or use it in an ``async with`` statement. Names and arguments are those of
    :class:`qpruner_client.Client`.

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
        self._connection = AsyncConnection(Server.of(server, api_key, timeout, retries or Retries()))
        self.jobs = AsyncJobs(self._connection)
        self.datasets = AsyncDatasets(self._connection)
        self.models = AsyncModels(self._connection)
        self.webhooks = AsyncWebhooks(self._connection)

    @property
    def server(self) -> str:
        """The address of the service."""
        return self._connection.server.url

    async def readiness(self) -> Readiness:
        """Whether each part of the service is ready."""
        return await self._connection.send(calls.readiness())

    async def close(self) -> None:
        """Close every connection."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
