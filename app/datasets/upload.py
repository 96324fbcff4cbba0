"""Reads an uploaded file from a request to disk, up to the limit."""

from __future__ import annotations

import re
import shutil
import tempfile
import unicodedata
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path, PurePath

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from app.problems import Problem
from qpruner_core.dataset_forms import COMPRESSIONS
from qpruner_core.errors import DatasetTooLargeError
from qpruner_core.sizes import format_bytes
from qpruner_core.stage_store import disk_full_as_error

_FORM_BYTES = 2**16  # boundaries, headers and other fields around the file
_LONGEST_NAME = 200  # bytes
_NOT_IN_NAMES = re.compile(r"[^\w.()+-]+")


@contextmanager
def upload_directory(data_dir: Path) -> Iterator[Path]:
    """A temporary directory for one upload."""
    uploads = data_dir / "uploads"
    with disk_full_as_error(data_dir):
        uploads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=uploads) as directory:
            yield Path(directory)


async def receive_upload(request: Request, directory: Path, limit: int) -> Path:
    """Write the request's file into ``directory`` under its sanitised name.

    The file is the part ``file`` of a form, or the whole body with its name in the query.

    Raises:
        DatasetTooLargeError: it has more than ``limit`` bytes; no more than that is read.
        Problem: 400, if there is no file, or the request is interrupted.
    """
    if declared_bytes(request) > limit:
        raise too_large(limit)
    is_form = _is_form(request)
    allowance = limit + (_FORM_BYTES if is_form else 0)
    try:
        async with aclosing(_limited(request, allowance, limit)) as body:
            return await (
                _receive_form(request, body, directory) if is_form else _receive_body(request, body, directory)
            )
    except ClientDisconnect as error:
        raise Problem(400, "upload_broken_off", "The upload ended early.") from error


def declared_bytes(request: Request) -> int:
    """Least bytes of the request's file by its Content-Length; 0 if there is none."""
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdecimal() else 0
    return max(0, size - _FORM_BYTES) if _is_form(request) else size


def safe_filename(name: str) -> str:
    """``name`` without folders, control characters and characters with a meaning in shells, URLs or buckets."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    clean = _NOT_IN_NAMES.sub("_", last).lstrip(".").rstrip("._") or "dataset"
    stem, dot, suffix = clean.rpartition(".")
    if not dot:
        return _shortened(clean, _LONGEST_NAME)
    inner = PurePath(stem).suffix if f".{suffix.lower()}" in COMPRESSIONS else ""  # ".jsonl" of "text.jsonl.gz"
    stem, suffix = stem.removesuffix(inner), _shortened(f"{inner}.{suffix}", 17)
    return f"{_shortened(stem or 'dataset', _LONGEST_NAME - 17)}{suffix}"


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("multipart/form-data")


async def _limited(request: Request, allowance: int, limit: int) -> AsyncGenerator[bytes, None]:
    read = 0
    async for chunk in request.stream():
        read += len(chunk)
        if read > allowance:
            raise too_large(limit)
        yield chunk


async def _receive_form(request: Request, body: AsyncGenerator[bytes, None], directory: Path) -> Path:
    try:
        form = await MultiPartParser(request.headers, body, max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise Problem(
            400, "invalid_form", f"The form cannot be read: {error.message}", remedy="Send one file, as `file`."
        ) from error
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile) or not upload.filename:
            raise _no_file()
        path = directory / safe_filename(upload.filename)
        with path.open("wb") as target:
            await run_in_threadpool(shutil.copyfileobj, upload.file, target, 2**20)
        return path
    finally:
        await form.close()


async def _receive_body(request: Request, body: AsyncGenerator[bytes, None], directory: Path) -> Path:
    name = request.query_params.get("filename")
    if not name:
        raise _no_file()
    path = directory / safe_filename(name)
    with path.open("wb") as target:
        async for chunk in body:
            await run_in_threadpool(target.write, chunk)
    return path


def _shortened(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def too_large(limit: int) -> DatasetTooLargeError:
    """The error of a file of more than ``limit`` bytes."""
    return DatasetTooLargeError(
        f"The file is larger than {format_bytes(limit)}, the limit of this installation.",
        field="file",
        remedy="Send a part of it: a few megabytes of typical text are enough to calibrate and recover.",
    )


def _no_file() -> Problem:
    return Problem(
        400,
        "file_missing",
        "The request has no file.",
        field="file",
        remedy="Send a form with the part `file` (curl -F file=@text.jsonl), or the bare file with ?filename=…",
    )
