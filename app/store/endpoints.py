"""Answers the local store's signed URLs. Who holds one needs no API key; a bucket answers its own."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse

from app.dependencies import StoreDep
from app.problems import Problem, ProblemDocument
from app.store.content_disposition import attachment
from app.store.local import LocalStore
from app.store.signing import SignatureExpiredError, SignatureInvalidError

router = APIRouter(tags=["store"])

_PIECE = 2**18
"""Bytes that are read at a time: small ones cost more turns of threads than reading does, and each download holds a few
of them."""
_FRESH_URL = "Ask for the artifact again: every answer carries a fresh URL."


class StoredFile(FileResponse):
    """A file of the store."""

    chunk_size = _PIECE


async def _local_store(store: StoreDep) -> LocalStore:
    if not isinstance(store, LocalStore):
        raise Problem(404, "not_found", "This store answers its own URLs.")
    return store


@router.head("/store/{key:path}", include_in_schema=False)
@router.get(
    "/store/{key:path}",
    response_class=FileResponse,
    summary="Download by a signed URL",
    responses={
        206: {"description": "The part that `Range` asks for."},
        403: {"model": ProblemDocument, "description": "`signature_invalid` or `signature_expired`."},
        404: {"model": ProblemDocument},
        416: {"description": "The file has no such range."},
    },
)
def download(
    request: Request,
    key: str,
    store: Annotated[LocalStore, Depends(_local_store)],
    expires: Annotated[str, Query(description="Seconds since 1970.")] = "",
    filename: Annotated[str, Query(description="What the file is saved as.")] = "",
    signature: str = "",
) -> StoredFile:
    """The file, or the part of it that `Range` asks for. The URL is given by the service and cannot be made up."""
    try:
        store.signer.verify("GET", key, filename, expires, signature, now=time.time())  # HEAD tells less than GET
    except SignatureInvalidError:
        raise Problem(
            403, "signature_invalid", "The URL's signature is not valid for this file.", remedy=_FRESH_URL
        ) from None
    except SignatureExpiredError:
        raise Problem(403, "signature_expired", "The URL has expired.", remedy=_FRESH_URL) from None
    path = store.find(key)  # a key that was signed is well-formed
    if path is None:
        raise Problem(404, "not_found", "The file is no longer there.", remedy="Its job or dataset was deleted.")
    return StoredFile(
        path,
        stat_result=path.stat(),
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": attachment(filename or path.name),
            "X-Content-Type-Options": "nosniff",  # users' own files: never to be run as a page of this origin
            "Cache-Control": "private, no-transform",
        },
    )
