"""Receives parts of uploads for the local store at its signed URLs; a bucket receives its own."""

from __future__ import annotations

import time
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import contextmanager_in_threadpool
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.database import read_only
from app.dependencies import SessionFactoryDep
from app.problems import Problem, problem_responses
from app.store.endpoints import LocalStoreDep
from app.store.local import LocalStore
from app.store.signing import SignatureExpiredError, SignatureInvalidError
from app.uploads.models import Upload, UploadFile
from app.uploads.service import part_size

router = APIRouter(tags=["store"])
_PIECE = 2**20
_FRESH_URLS = "Request the missing parts again: every response has fresh URLs."


@router.put(
    "/store/{key:path}",
    status_code=204,
    summary="Upload a part by a signed URL",
    responses=problem_responses(
        "400 upload_broken_off", "403 signature_invalid", "403 signature_expired", "404 not_found", "409 not_uploading",
        "422 part_size_wrong", "503 store_unavailable", "507 disk_full",
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)  # fmt: skip
async def upload_part(
    request: Request,
    key: str,
    store: LocalStoreDep,
    sessions: SessionFactoryDep,
    part: Annotated[str, Query(pattern="^[0-9]{1,5}$", description="Number of the part.")] = "0",
    expires: Annotated[str, Query(description="Seconds since 1970.")] = "",
    signature: str = "",
) -> None:
    """The bytes of one part. Sending a part again replaces the earlier one; an interrupted one leaves nothing.

    The service issues the URL; it cannot be forged.
    """
    number = int(part)
    _verify(store, key, number, expires, signature)
    size = await run_in_threadpool(_expected_size, sessions, key, number)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) != size:
        raise _wrong_size(size, declared)
    async with contextmanager_in_threadpool(store.part_writer(key, number)) as writer:
        await _receive(request, writer, size)
        await run_in_threadpool(_expected_size, sessions, key, number)  # it may have been completed meanwhile


async def _receive(request: Request, writer: BinaryIO, size: int) -> None:
    """Write the body as it arrives, holding at most one piece in memory."""
    received, piece = 0, bytearray()
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > size:
                raise _wrong_size(size, f"at least {received}")
            piece += chunk
            if len(piece) >= _PIECE:
                await run_in_threadpool(writer.write, bytes(piece))
                piece.clear()
    except ClientDisconnect as error:
        raise Problem(400, "upload_broken_off", "The upload ended before the part was complete.") from error
    if received != size:
        raise _wrong_size(size, str(received))
    await run_in_threadpool(writer.write, bytes(piece))


def _verify(store: LocalStore, key: str, number: int, expires: str, signature: str) -> None:
    try:
        store.signer.verify("PUT", key, str(number), expires, signature, now=time.time())
    except SignatureInvalidError:
        raise Problem(
            403, "signature_invalid", "The URL's signature is not valid for this part.", remedy=_FRESH_URLS
        ) from None
    except SignatureExpiredError:
        raise Problem(403, "signature_expired", "The URL has expired.", remedy=_FRESH_URLS) from None


def _expected_size(sessions: sessionmaker[Session], key: str, number: int) -> int:
    """Bytes of the part. Raises a 409 problem unless its upload is waiting for parts."""
    query = select(Upload, UploadFile).join(UploadFile, UploadFile.upload_id == Upload.id).where(UploadFile.key == key)
    with read_only(sessions)() as session:
        found = session.execute(query).one_or_none()
    if found is None or found[0].status != "uploading":
        state = "gone" if found is None else found[0].status
        raise Problem(
            409, "not_uploading", f"The upload is {state}.", remedy=("Begin another upload to send other files.")
        )
    return part_size(found[0], found[1], number)


def _wrong_size(expected: int, received: str) -> Problem:
    return Problem(
        422, "part_size_wrong", f"The part has {expected} bytes, but {received} were received.",
        remedy="Send exactly the bytes of the file from `offset` on, as many as in `bytes`.",
    )  # fmt: skip
