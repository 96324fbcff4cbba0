"""Text files as they come: compressed or not, with line ends of any system, counted, hashed and bounded."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from qpruner_core.data.bad_record import invalid
from qpruner_core.errors import DatasetTooLargeError
from qpruner_core.sizes import format_bytes

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BLOCK = 2**16


class TextFile:
    """The text of one file; its line ends are ``\\n`` whatever they were, and a byte order mark is not in it.

    A compressed file is known by how it begins. ``most_bytes`` bounds what it may come to. ``digest`` takes in the
    bytes of the file as they are read, and ``size`` and ``text_size`` count those of the file and of its text.

    Raises, from every method:
        DatasetInvalidError: it is binary, not UTF-8, or cannot be decompressed.
        DatasetTooLargeError: decompressed, it is too large.
    """

    def __init__(self, path: Path, most_bytes: int, digest: Any | None = None) -> None:
        self._raw = _Counted(path.open("rb"), digest or hashlib.sha256())
        head = self._raw.peek()
        content: Any = self._raw
        if head.startswith(_GZIP):
            content = gzip.GzipFile(fileobj=io.BufferedReader(content), mode="rb")
        elif head.startswith(_ZSTD):
            content = _zstd().ZstdFile(io.BufferedReader(content), mode="rb")
        self._content = _Bounded(content, most_bytes)
        # Bytes that are no UTF-8 pass as half surrogates, so that the line they are in can be named
        self._text = io.TextIOWrapper(
            io.BufferedReader(self._content), encoding="utf-8-sig", errors="surrogateescape", newline=None
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
        """Bytes of the file that were read."""
        return self._raw.size

    @property
    def text_size(self) -> int:
        """Bytes of its text that were read."""
        return self._content.size

    def readline(self, most: int) -> str:
        """The next line with its end, or its next ``most`` characters; "" at the end. Its number is ``line - 1``, or
        ``line`` if it goes on."""
        return self._checked(lambda: self._text.readline(most))

    def read(self, most: int) -> str:
        """The next ``most`` characters; "" at the end."""
        return self._checked(lambda: self._text.read(most))

    def _checked(self, read: Any) -> str:
        try:
            text: str = read()
        except (EOFError, OSError, zlib.error, ValueError) as error:
            raise invalid(f"it cannot be decompressed ({error})", "Compress it again, or give it as it is.") from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # of whichever module there is
                raise
            raise invalid(f"it cannot be decompressed ({error})", "Compress it again, or give it as it is.") from error
        if "\0" in text:
            line = self.line + text[: text.index("\0")].count("\n")
            raise invalid(f"line {line} holds a zero byte: the file is binary", "Give a UTF-8 text file.")
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
    """Bytes up to a number of them, and an error beyond."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream = stream
        self._most = most
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(min(len(buffer), _BLOCK))
        self.size += len(block)
        if self.size > self._most:
            raise DatasetTooLargeError(
                f"The dataset has more than {format_bytes(self._most)} once it is decompressed, "
                "the most that this installation takes.",
                field="dataset",
                remedy="Give a part of it: some megabytes of typical text are enough to calibrate and recover.",
            )
        buffer[: len(block)] = block
        return len(block)


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # of Python 3.14 and later, and of those before
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise invalid(
        "it is compressed with zstd, and backports.zstd is not installed",
        "Run: pip install backports.zstd; or compress it as .gz.",
    )
