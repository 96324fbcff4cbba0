"""Sends requests, with retries, and turns every failure into an error of this package."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import httpx

from qpruner_client.calls import Call
from qpruner_client.errors import ConnectionFailedError, SettingsError, error_of
from qpruner_client.retries import Attempts, Retries

T = TypeVar("T")
DEFAULT_SERVER = "http://127.0.0.1:8000"
_PIECE = 2**18


@dataclass(frozen=True)
class Server:
    """Address and key of a service. The API key is only sent to this address."""

    url: str
    api_key: str | None
    timeout: float
    retries: Retries

    @classmethod
    def of(cls, url: str | None, api_key: str | None, timeout: float, retries: Retries) -> Server:
        """With ``QPRUNER_SERVER`` and ``QPRUNER_API_KEY`` as defaults."""
        address = cls.checked(url or os.environ.get("QPRUNER_SERVER") or DEFAULT_SERVER)
        return cls(address, api_key or os.environ.get("QPRUNER_API_KEY") or None, timeout, retries)

    @staticmethod
    def checked(url: str) -> str:
        """``url`` without a trailing slash. Raises :class:`SettingsError` if it is not a server address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise SettingsError(
                f"{url!r} is not a server address.", field="server", remedy='Give one such as "https://host:8000".'
            )
        return url.rstrip("/")

    def settings(self) -> dict[str, Any]:
        """Arguments of an httpx client for this server."""
        headers = {"User-Agent": f"qpruner-client/{_version()}", "Accept": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        timeout = httpx.Timeout(self.timeout, connect=min(10.0, self.timeout))
        return {"base_url": self.url, "headers": headers, "timeout": timeout, "follow_redirects": False}

    def unreachable(self, error: httpx.HTTPError) -> ConnectionFailedError:
        """The error for a connection that failed permanently."""
        said = str(error) or type(error).__name__
        return ConnectionFailedError(
            f"The server {self.url} is unreachable: {said.rstrip('.')}.",
            remedy="Check the address, and that the service is running.",
        )


class Connection:
    """A synchronous connection to ``server``."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._http = httpx.Client(**server.settings())

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """The result of ``call``. Raises :class:`qpruner_client.errors.ClientError`."""
        attempts = Attempts(self.server.retries, repeatable=call.repeatable)
        while True:
            try:
                response = self._once(call)
            except httpx.TransportError as error:
                delay = attempts.after_error(error)
                if delay is None:
                    raise self.server.unreachable(error) from error
            else:
                if call.is_result(response, perhaps_done=attempts.perhaps_done):
                    return call.parse(response)
                delay = attempts.after_response(response)
                if delay is None:
                    raise error_of(response)
            time.sleep(delay)

    @contextmanager
    def stream(self, path: str, headers: dict[str, str], read_timeout: float) -> Iterator[httpx.Response]:
        """Context manager: a response to be streamed."""
        timeout = httpx.Timeout(self.server.timeout, connect=min(10.0, self.server.timeout), read=read_timeout)
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            yield response

    def _once(self, call: Call[T]) -> httpx.Response:
        if call.file is None:
            return self._http.request(
                call.method, call.path, params=call.params, json=call.json, headers=dict(call.headers)
            )
        with call.file() as stream:
            headers = dict(call.headers) | {"Content-Length": str(_size(stream))}
            pieces = iter(lambda: stream.read(_PIECE), b"")
            return self._http.request(call.method, call.path, params=call.params, content=pieces, headers=headers)


class AsyncConnection:
    """An asynchronous connection to ``server``."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._http = httpx.AsyncClient(**server.settings())

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """The result of ``call``. Raises :class:`qpruner_client.errors.ClientError`."""
        attempts = Attempts(self.server.retries, repeatable=call.repeatable)
        while True:
            try:
                response = await self._once(call)
            except httpx.TransportError as error:
                delay = attempts.after_error(error)
                if delay is None:
                    raise self.server.unreachable(error) from error
            else:
                if call.is_result(response, perhaps_done=attempts.perhaps_done):
                    return call.parse(response)
                delay = attempts.after_response(response)
                if delay is None:
                    raise error_of(response)
            await asyncio.sleep(delay)

    @asynccontextmanager
    async def stream(self, path: str, headers: dict[str, str], read_timeout: float) -> AsyncIterator[httpx.Response]:
        """Context manager: a response to be streamed."""
        timeout = httpx.Timeout(self.server.timeout, connect=min(10.0, self.server.timeout), read=read_timeout)
        async with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            yield response

    async def _once(self, call: Call[T]) -> httpx.Response:
        if call.file is None:
            return await self._http.request(
                call.method, call.path, params=call.params, json=call.json, headers=dict(call.headers)
            )
        with call.file() as stream:
            headers = dict(call.headers) | {"Content-Length": str(_size(stream))}
            return await self._http.request(
                call.method, call.path, params=call.params, content=_pieces(stream), headers=headers
            )


async def _pieces(stream: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(stream.read, _PIECE):
        yield piece


def _size(stream: BinaryIO) -> int:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return size


def _version() -> str:
    try:
        return version("qpruner-client")
    except PackageNotFoundError:  # run from its folder
        return "0"
