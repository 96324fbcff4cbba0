"""Serves the local store's signed URLs. Their holders need no API key; a bucket serves its own."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from app.dependencies import StoreDep
from app.problems import Problem, ProblemDocument
from app.store.content_disposition import attachment
from app.store.local import LocalStore
from app.store.signing import SignatureExpiredError, SignatureInvalidError

router = APIRouter(tags=["store"])

_LARGEST_PIECE, _SMALLEST_PIECE = 2**20, 2**16
"""Bytes that a download reads at a time: smaller pieces cost more thread switches than reading."""
_ALL_PIECES = 16 * 2**20
"""Bytes of one piece of every download together, as long as pieces can be smaller; twice that is held in memory."""
_FRESH_URL = "Request the artifact again: every response has a fresh URL."


class StoredFile(FileResponse):
    """A file of the store, in pieces that are the smaller the more files are on their way."""

    _on_their_way: ClassVar[int] = 0  # of this process, whose event loop alone counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        StoredFile._on_their_way += 1
        self.chunk_size = max(_SMALLEST_PIECE, min(_LARGEST_PIECE, _ALL_PIECES // StoredFile._on_their_way))
        try:
            await super().__call__(scope, receive, send)
        finally:
            StoredFile._on_their_way -= 1


async def _local_store(store: StoreDep) -> LocalStore:
    if not isinstance(store, LocalStore):
        raise Problem(404, "not_found", "This store serves its own URLs.")
    return store


LocalStoreDep = Annotated[LocalStore, Depends(_local_store)]


@router.head("/store/{key:path}", include_in_schema=False)
@router.get(
    "/store/{key:path}",
    response_class=FileResponse,
    summary="Download by a signed URL",
    responses={
        206: {"description": "The part requested by `Range`."},
        403: {"model": ProblemDocument, "description": "`signature_invalid` or `signature_expired`."},
        404: {"model": ProblemDocument},
        416: {"description": "The file has no such range."},
    },
)
def download(
    request: Request,
    key: str,
    store: LocalStoreDep,
    expires: Annotated[str, Query(description="Seconds since 1970.")] = "",
    filename: Annotated[str, Query(description="Name to save the file under.")] = "",
    signature: str = "",
) -> StoredFile:
    """The file, or the part requested by `Range`. The service issues the URL; it cannot be forged."""
    try:
        store.signer.verify("GET", key, filename, expires, signature, now=time.time())  # HEAD reveals less than GET
    except SignatureInvalidError:
        raise Problem(
            403, "signature_invalid", "The URL's signature is not valid for this file.", remedy=_FRESH_URL
        ) from None
    except SignatureExpiredError:
        raise Problem(403, "signature_expired", "The URL has expired.", remedy=_FRESH_URL) from None
    path = store.find(key)  # a key that was signed is well-formed
    if path is None:
        raise Problem(404, "not_found", "The file no longer exists.", remedy="Its job or dataset was deleted.")
    return StoredFile(
        path,
        stat_result=path.stat(),
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": attachment(filename or path.name),
            "X-Content-Type-Options": "nosniff",  # users' own files: never rendered as a page of this origin
            "Cache-Control": "private, no-transform",
        },
    )
