"""Text files in any form: compressed or not, with any line ends; counted, hashed and bounded."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from qpruner_core.data.bad_record import invalid
from qpruner_core.errors import DatasetTooLargeError
from qpruner_core.sizes import format_bytes

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BLOCK = 2**16


class TextFile:
    r"""Text of one file; line ends (also CR CR LF) are normalised to ``\n``, and a byte order mark is dropped.

    Compression is recognised by the first bytes. ``most_bytes`` bounds the decompressed size. ``digest`` hashes the
    bytes of the file as they are read; ``size`` and ``text_size`` count those of the file and of its text.
    ``check_stop`` is called before every block of text, and raises an error to end the reading.

    Raises, from every method:
        DatasetInvalidError: binary, UTF-16 or otherwise not UTF-8, or not decompressible.
        DatasetTooLargeError: too large after decompression.
    """

    def __init__(
        self, path: Path, most_bytes: int, digest: Any | None = None, check_stop: Callable[[], None] = lambda: None
    ) -> None:
        self._raw = _Counted(path.open("rb"), digest or hashlib.sha256())
        head = self._raw.peek()
        self._is_utf16 = head.startswith(_UTF16)
        content: Any = self._raw
        if head.startswith(_GZIP):
            content = gzip.GzipFile(fileobj=io.BufferedReader(content), mode="rb")
        elif head.startswith(_ZSTD):
            content = _zstd().ZstdFile(io.BufferedReader(content), mode="rb")
        self._content = _Bounded(content, most_bytes, check_stop)
        # Invalid UTF-8 bytes pass as half surrogates, so that an error can name their line
        self._text = io.TextIOWrapper(
            io.BufferedReader(_LineEnds(self._content)), encoding="utf-8-sig", errors="surrogateescape", newline=None
        )
        self.line = 1

    def __enter__(self) -> TextFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._raw.close()

    @property
    def size(self) -> int:
        """Bytes of the file read so far."""
        return self._raw.size

    @property
    def text_size(self) -> int:
        """Bytes of its text read so far."""
        return self._content.size

    def readline(self, most: int) -> str:
        """The next line with its end, or its next ``most`` characters; "" at the end. Its number is ``line - 1``, or
        ``line`` if it continues."""
        return self._checked(lambda: self._text.readline(most))

    def read(self, most: int) -> str:
        """The next ``most`` characters; "" at the end."""
        return self._checked(lambda: self._text.read(most))

    def _checked(self, read: Any) -> str:
        try:
            text: str = read()
        except (EOFError, OSError, zlib.error, ValueError) as error:
            raise invalid(
                f"it cannot be decompressed ({error})", ("Compress it again, or give it uncompressed.")
            ) from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # of whichever module is installed
                raise
            raise invalid(
                f"it cannot be decompressed ({error})", ("Compress it again, or give it uncompressed.")
            ) from error
        if self._is_utf16:
            raise invalid("it is UTF-16 text", "Save the file as UTF-8 text.")
        if "\0" in text:
            line = self.line + text[: text.index("\0")].count("\n")
            raise invalid(f"line {line} contains a zero byte: the file is binary", "Give a UTF-8 text file.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            line = self.line + text[: error.start].count("\n")
            raise invalid(f"line {line} is not UTF-8", "Save the file as UTF-8 text.") from error
        self.line += text.count("\n")
        return text


class _Counted(io.RawIOBase):
    """A file's bytes, counted and hashed as they are read."""

    def __init__(self, file: BinaryIO, digest: Any) -> None:
        self._file = file
        self._digest = digest
        self.size = 0

    def readable(self) -> bool:
        return True

    def peek(self) -> bytes:
        head = self._file.read(4)
        self._file.seek(0)
        return head

    def readinto(self, buffer: Any) -> int:
        block = self._file.read(len(buffer))
        self._digest.update(block)
        self.size += len(block)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Bounded(io.RawIOBase):
    """A number of bytes, then an error."""

    def __init__(self, stream: Any, most: int, check_stop: Callable[[], None]) -> None:
        self._stream = stream
        self._most = most
        self._check_stop = check_stop
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._check_stop()
        block = self._stream.read(min(len(buffer), _BLOCK))
        self.size += len(block)
        if self.size > self._most:
            raise DatasetTooLargeError(
                f"The dataset has more than {format_bytes(self._most)} after decompression, the limit of this "
                "installation.",
                field="dataset",
                remedy="Give a part of it: a few megabytes of typical text are enough to calibrate and recover.",
            )
        buffer[: len(block)] = block
        return len(block)


class _LineEnds(io.RawIOBase):
    """Bytes with CR LF for CR CR LF, which writing CR LF in text mode leaves on Windows."""

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self._held = b""
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._stream.read(_BLOCK)
            data = self._held + (block or b"")
            whole = data[: max(len(data.rstrip(b"\r")), len(data) - 2)] if block else data
            self._ready = whole.replace(b"\r\r\n", b"\r\n")
            self._held = data[len(whole) :]
            if not block:
                break
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # of Python 3.14 and later, and of earlier versions
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise invalid(
        "it is compressed with zstd, and backports.zstd is not installed",
        "Run: pip install backports.zstd; or compress it as .gz.",
    )
