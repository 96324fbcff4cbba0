"""A child process and its two streams, seen from the supervisor."""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ValidationError

from app.jobs.logs import KEPT_BYTES
from qpruner_core.die_with_parent import dying_with_parent
from qpruner_core.program import program_settings
from worker.protocol import LINE_ADAPTER, Answer, ChildRequest, Line

CHILD_COMMAND = (sys.executable, "-m", "worker.child")
_LOG = logging.getLogger(__name__)
_TERM_SECONDS = 1.0

# The child gets only what a program needs to run: none of these holds a credential of the service.
_PASSED_ON = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TZ|USER|LOGNAME|PYTHONPATH|VIRTUAL_ENV|LD_LIBRARY_PATH|XDG_CACHE_HOME"
    r"|(ATEN|ONEDNN|CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|TORCH|TORCHDYNAMO|PYTORCH|BNB)_\w+"
    r"|(OMP|GOMP|MKL|KMP|OPENBLAS|ROCM|HIP|HSA)_\w+"
    r"|HF_(HOME|HUB_CACHE|HUB_OFFLINE|HUB_\w*TIMEOUT)|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|(http|https|no|all)_proxy|(HTTP|HTTPS|NO|ALL)_PROXY"
)


def child_environment(environment: Mapping[str, str], threads: int, temporary: Path) -> dict[str, str]:
    """The part of ``environment`` that a child may see, with its CPU threads (0: as many as it may use) and its
    temporary folder."""
    passed = {name: value for name, value in environment.items() if _PASSED_ON.fullmatch(name)}
    passed |= program_settings(passed, threads)
    return passed | {"TMPDIR": str(temporary), "PYTHONHASHSEED": "0"}


class ChildProcess:
    """Starts a child at once. ``lines`` yields its output, then ``None`` at the end; ``on_line`` is called with each
    line first, in a thread of this class."""

    def __init__(
        self, request: ChildRequest, environment: Mapping[str, str], *,
        command: Sequence[str] = CHILD_COMMAND, keep_open: Sequence[int] = (),
        on_line: Callable[[Line], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self.lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._on_line = on_line
        self._tail = bytearray()
        self._printed = 0
        self._tail_lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 - the command is our own
            dying_with_parent(command, signal.SIGKILL),
            env=dict(environment), start_new_session=True, pass_fds=tuple(keep_open),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._lifeline = self._process.stdin
        self._ended = threading.Event()
        self._readers = [
            threading.Thread(target=self._read_lines, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_log, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._say(request)

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended; its id may then belong to another process."""
        return self._ended.is_set() or self._process.poll() is not None

    def answer(self, answer: Answer) -> None:
        """Send it the answer about the stage or the trial that it wants."""
        self._say(answer)

    def finish(self, seconds: float) -> int:
        """Wait for its end, with force after ``seconds``; returns its exit code, negative for a signal."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        self._signal(signal.SIGKILL)  # processes that it started and left behind
        self._close()
        return code

    def kill(self) -> None:
        """End the child and all its processes: by SIGTERM first, by force after a second."""
        if self._ended.is_set():
            return  # its id may belong to another process by now
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_TERM_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._close()

    def log_tail(self, characters: int = 4000) -> str:
        """The end of its standard error."""
        return bytes(self._tail).decode(errors="replace")[-characters:].strip()

    def output(self) -> tuple[bytes, int]:
        """The end of its output, and the number of bytes it printed in all."""
        with self._tail_lock:
            return bytes(self._tail), self._printed

    def _say(self, message: BaseModel) -> None:
        # If it has died, its exit code and its log tell more; if it was killed, its input is closed.
        with suppress(BrokenPipeError, ValueError):
            self._lifeline.write(message.model_dump_json().encode() + b"\n")
            self._lifeline.flush()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)  # the group outlives its leader while it has members

    def _close(self) -> None:
        self._ended.set()
        with suppress(BrokenPipeError):
            self._lifeline.close()
        for reader in self._readers:
            reader.join(1.0)

    def _read_lines(self, stream: BinaryIO) -> None:
        try:
            with stream:
                for raw in stream:
                    try:
                        line = LINE_ADAPTER.validate_json(raw)
                    except ValidationError:
                        _LOG.warning("The child wrote a line that is not an event: %.200r", raw)
                    else:
                        self._on_line(line)
                        self.lines.put(line)
        finally:
            self.lines.put(None)  # however reading ended, a thread waits for this

    def _read_log(self, stream: BinaryIO) -> None:
        with stream:
            while piece := stream.read1(4096):  # type: ignore[attr-defined]
                with self._tail_lock:
                    self._tail += piece
                    self._printed += len(piece)
                    del self._tail[:-KEPT_BYTES]
