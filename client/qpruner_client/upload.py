"""Sends files in parallel parts straight to the store, and resumes an interrupted upload of the same files.

The service knows the sent parts and lists the missing ones: nothing is written on this machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import BinaryIO
from urllib.parse import urljoin

import httpx

from qpruner_client.connection import Server
from qpruner_client.errors import UploadError, error_of
from qpruner_client.local_models import LocalFile
from qpruner_client.models import PartsView, PartView
from qpruner_client.retries import Attempts

CONNECTIONS = 4
OnBytes = Callable[[int, int], None]
"""Called with the received bytes and the bytes of all files."""
_PIECE = 2**18
_EXPIRED = (400, 401, 403)  # responses of stores to an expired signed URL
_MOST_ROUNDS_IN_VAIN = 3


class Upload:
    """The parts of ``files`` to send.

    Args:
        ask: requests the missing parts from the service, with fresh URLs.
        stop: ends the upload when it is set; sent parts are kept.
    """

    def __init__(
        self, server: Server, files: Sequence[LocalFile], ask: Callable[[], PartsView], *,
        connections: int = CONNECTIONS, on_bytes: OnBytes | None = None, stop: threading.Event | None = None,
    ) -> None:  # fmt: skip
        self._server = server
        self._files: Mapping[str, LocalFile] = {file.name: file for file in files}
        self._ask = ask
        self._connections = max(1, connections)
        self._on_bytes = on_bytes or (lambda done, total: None)
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._total = sum(file.bytes for file in files)
        self._sent = 0

    def run(self, first: PartsView) -> None:
        """Send every missing part, beginning with those of ``first``. Raises :class:`UploadError`."""
        parts, in_vain = first, 0
        timeout = httpx.Timeout(self._server.timeout, connect=min(10.0, self._server.timeout))
        # A separate client: the API key is not for the store, and a signed URL needs none
        with httpx.Client(timeout=timeout) as http:
            while parts.missing_parts:
                self._sent = parts.uploaded_bytes
                self._on_bytes(self._sent, self._total)
                done = self._send_all(http, parts.parts)
                in_vain = 0 if done else in_vain + 1
                if in_vain == _MOST_ROUNDS_IN_VAIN:
                    raise _failed("the store rejects its URLs; the clocks of service and store may differ")
                parts = self._ask()
        self._on_bytes(self._total, self._total)

    def _send_all(self, http: httpx.Client, parts: Sequence[PartView]) -> int:
        """Number of sent ``parts``; fewer than all if their URLs have expired."""
        done = 0
        with ThreadPoolExecutor(self._connections, thread_name_prefix="upload") as pool:
            futures = [pool.submit(self._send, http, part) for part in parts]
            try:
                for future in as_completed(futures):
                    done += future.result()
            except BaseException:
                self._stop.set()  # so that the other threads end as well
                pool.shutdown(cancel_futures=True)
                raise
        return done

    def _send(self, http: httpx.Client, part: PartView) -> bool:
        """Whether the part was sent; ``False`` if its URL has expired."""
        attempts = Attempts(self._server.retries, repeatable=True)
        url = urljoin(f"{self._server.url}/", part.url)
        while True:
            self.check_stop()
            before = _Counted(self)
            try:
                with self._files[part.file].path.open("rb") as stream:
                    stream.seek(part.offset)
                    headers = {"Content-Length": str(part.bytes), "Content-Type": "application/octet-stream"}
                    response = http.put(url, content=before.pieces(stream, part.bytes), headers=headers)
            except httpx.TransportError as error:
                before.undo()
                delay, why = attempts.after_error(error), str(error) or type(error).__name__
            else:
                if response.is_success:
                    return True
                before.undo()
                if response.status_code in _EXPIRED:
                    return False
                if response.status_code == 409:  # an upload that was deleted, or completed by someone else
                    raise error_of(response)
                delay, why = attempts.after_response(response), f"status {response.status_code}"
            if delay is None:
                raise _failed(f"{part.file}, part {part.number}: {why}")
            time.sleep(delay)

    def sent_more(self, size: int) -> None:
        """Count sent bytes, or with a negative ``size`` discard them."""
        with self._lock:
            self._sent += size
            self._on_bytes(self._sent, self._total)

    def check_stop(self) -> None:
        """Raise if the upload must end."""
        if self._stop.is_set():
            raise UploadError("The upload was stopped.", remedy="Run it again to resume.")


class _Counted:
    """The bytes of one attempt at a part."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._sent = 0

    def pieces(self, stream: BinaryIO, left: int) -> Iterator[bytes]:
        """The next ``left`` bytes of ``stream``, never more than a piece in memory."""
        while left:
            self._upload.check_stop()
            piece = stream.read(min(_PIECE, left))
            if not piece:
                raise UploadError(f"{stream.name} has become shorter.", remedy="Upload it again in its present state.")
            yield piece
            left -= len(piece)
            self._sent += len(piece)
            self._upload.sent_more(len(piece))

    def undo(self) -> None:
        """They did not arrive."""
        self._upload.sent_more(-self._sent)


def _failed(why: str) -> UploadError:
    return UploadError(f"The upload failed: {why}.", remedy="Run it again: it resumes where it stopped.")
