"""Downloads a file in parallel ranges, resumes after an interruption, and verifies size and SHA-256.

While it is incomplete, ``model.gguf.part`` has the full size of the file, and ``model.gguf.part.json`` lists its
finished ranges. Both are deleted at the end; an existing ``model.gguf`` is complete and verified.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from urllib.parse import urljoin

import httpx

from qpruner_client.connection import Server
from qpruner_client.errors import DownloadError
from qpruner_client.models import ArtifactView
from qpruner_client.retries import Attempts

RANGE_BYTES = 16 * 2**20
CONNECTIONS = 4
OnBytes = Callable[[int, int], None]
"""Called with the downloaded bytes and the bytes of the file."""
_PIECE = 2**18
_EXPIRED = (401, 403)


class Download:
    """One file on its way to ``target``.

    Args:
        find: requests the file's entry from the service; called again when a signed URL has expired.
        stop: ends the download when it is set; downloaded ranges are kept.
    """

    def __init__(
        self,
        server: Server,
        find: Callable[[], ArtifactView],
        target: Path,
        *,
        connections: int = CONNECTIONS,
        range_bytes: int = RANGE_BYTES,
        on_bytes: OnBytes | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._server = server
        self._find = find
        self._entry = find()
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._record = target.with_name(f"{target.name}.part.json")
        self._connections = max(1, connections)
        self._range_bytes = range_bytes
        self._on_bytes = on_bytes or (lambda done, total: None)
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._received = 0

    def run(self) -> Path:
        """Download missing ranges, verify, and return the path of the file. Raises :class:`DownloadError`."""
        entry = self._entry
        self._target.parent.mkdir(parents=True, exist_ok=True)
        if self._target.is_file() and _is_whole(self._target, entry):
            self._on_bytes(entry.bytes, entry.bytes)
            return self._target
        done = self._begin()
        missing = [start for start in range(0, entry.bytes, self._range_bytes) if start not in done]
        self._received = sum(self._length(start) for start in done)
        self._on_bytes(self._received, entry.bytes)
        timeout = httpx.Timeout(self._server.timeout, connect=min(10.0, self._server.timeout))
        # A separate client: the API key is not for the store, and a signed URL needs none
        with httpx.Client(timeout=timeout, follow_redirects=True) as http, self._part.open("r+b") as stream:
            self._fetch_all(http, stream.fileno(), missing, done)
        if not _is_whole(self._part, entry):
            self._forget()
            raise DownloadError(
                f"{entry.name} is not the file listed by the service: its SHA-256 is not {entry.sha256}.",
                code="download_corrupt", remedy="Download it again; a proxy in between may have changed it.",
            )  # fmt: skip
        self._part.replace(self._target)
        self._record.unlink(missing_ok=True)
        return self._target

    def _begin(self) -> set[int]:
        """The starts of the ranges that an earlier download has finished; creates the file for all others."""
        known = {"sha256": self._entry.sha256, "bytes": self._entry.bytes, "range_bytes": self._range_bytes}
        with suppress(OSError, ValueError):
            record = json.loads(self._record.read_text())
            if record["file"] == known and self._part.stat().st_size == self._entry.bytes:
                return set(record["done"])
        with self._part.open("wb") as stream:
            stream.truncate(self._entry.bytes)
        self._save(set())
        return set()

    def _save(self, done: set[int]) -> None:
        known = {"sha256": self._entry.sha256, "bytes": self._entry.bytes, "range_bytes": self._range_bytes}
        fresh = self._record.with_name(f"{self._record.name}.new")
        fresh.write_text(json.dumps({"file": known, "done": sorted(done)}))
        fresh.replace(self._record)

    def _forget(self) -> None:
        self._record.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _fetch_all(self, http: httpx.Client, file: int, missing: Sequence[int], done: set[int]) -> None:
        with ThreadPoolExecutor(self._connections, thread_name_prefix="download") as pool:
            futures = {pool.submit(self._fetch, http, file, start): start for start in missing}
            try:
                for future in as_completed(futures):
                    future.result()
                    done.add(futures[future])
                    self._save(done)
            except BaseException:
                self._stop.set()  # so that the other threads end as well
                pool.shutdown(cancel_futures=True)
                raise

    def _fetch(self, http: httpx.Client, file: int, start: int) -> None:
        """Write one range; resumes within it after a broken connection."""
        end, position = start + self._length(start), start
        attempts = Attempts(self._server.retries, repeatable=True)
        while position < end:
            self._check_stop()
            url = self._url()
            begun = position
            try:
                headers = {"Range": f"bytes={position}-{end - 1}", "Accept-Encoding": "identity"}
                with http.stream("GET", url, headers=headers) as response:
                    if response.status_code in (200, 206):
                        for piece in self._pieces(response, position, end):
                            os.pwrite(file, piece, position)
                            position += len(piece)
                            self._received_more(len(piece))
                        delay = None if position > begun else attempts.after_error(httpx.ReadError("no bytes arrived"))
                    else:
                        delay = self._refused(response, url, attempts)
            except httpx.TransportError as error:
                delay = attempts.after_error(error)
                if delay is None:
                    raise self._failed(str(error) or type(error).__name__) from error
            if position > begun:
                attempts, delay = Attempts(self._server.retries, repeatable=True), None
            if position < end and delay is not None:
                time.sleep(delay)
            elif position == begun:
                raise self._failed("no bytes arrive")

    def _pieces(self, response: httpx.Response, position: int, end: int) -> Iterator[bytes]:
        """The bytes of the range, also from a response with the whole file."""
        skip = position if response.status_code == 200 else 0
        left = end - position
        for piece in response.iter_bytes(_PIECE):
            self._check_stop()
            part = piece[skip:][:left]
            skip = max(0, skip - len(piece))
            left -= len(part)
            if part:
                yield part
            if not left:
                return

    def _refused(self, response: httpx.Response, url: str, attempts: Attempts) -> float:
        if response.status_code in _EXPIRED:
            with self._lock:
                if url == self._joined(self._entry.url):  # no other thread has requested a fresh one
                    self._entry = self._find()
            delay = attempts.after_error(httpx.ReadError("expired"))
        else:
            delay = attempts.after_response(response)
        if delay is None:
            raise self._failed(f"the store responded with status {response.status_code}")
        return delay

    def _url(self) -> str:
        with self._lock:
            return self._joined(self._entry.url)

    def _joined(self, url: str) -> str:
        return urljoin(f"{self._server.url}/", url)

    def _length(self, start: int) -> int:
        return min(self._range_bytes, self._entry.bytes - start)

    def _received_more(self, size: int) -> None:
        with self._lock:
            self._received += size
            self._on_bytes(self._received, self._entry.bytes)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise DownloadError(f"The download of {self._entry.name} was stopped.", remedy="Run it again to resume.")

    def _failed(self, why: str) -> DownloadError:
        return DownloadError(
            f"{self._entry.name} could not be downloaded: {why}.", remedy="Run it again: it resumes where it stopped."
        )


def target_of(name: str, to: Path) -> Path:
    """Path of the file ``name``: in ``to`` if that is a folder or ends with a slash, else ``to`` itself.

    Raises:
        DownloadError: the service returned a name that leads out of the folder.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise DownloadError(f"{name!r} is not a file name.", remedy="Specify the target yourself.")
    return to / name


def _is_whole(path: Path, entry: ArtifactView) -> bool:
    if path.stat().st_size != entry.bytes:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256
