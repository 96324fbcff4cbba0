"""Round trip of an object through the store by a signed URL."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.doctor.finding import Finding, failed, ok, skipped, warning
from app.doctor.parts import service_url
from app.ids import new_id
from app.migrate import require_current_schema
from app.settings import Settings
from app.store import ArtifactStore, LocalStore, open_store
from qpruner_core.errors import QPrunerError

_SECONDS = 10.0
_NAME = "probe.bin"


def check_store(settings: Settings, engine: Engine) -> Finding:
    """Put an object, download it by a signed URL, check that a changed URL is refused, and delete it."""
    try:
        require_current_schema(engine)
        store = open_store(settings, engine)
    except QPrunerError as error:
        if error.field == "database_url":
            return skipped("store", "the database, which identifies the store, is not migrated")
        return failed("store", error.message, error.remedy)
    except SQLAlchemyError:
        return skipped("store", "the database, which identifies the store, is unreachable")
    folder = f"doctor/{new_id('probe')}"
    try:
        begun = time.perf_counter()
        finding = _round_trip(settings, store, f"{folder}/{_NAME}")
        seconds = time.perf_counter() - begun
        return finding or ok("store", f"{store}: stored, downloaded by a signed URL and deleted in {seconds:.2f} s")
    except QPrunerError as error:
        return failed("store", error.message, error.remedy)
    finally:
        with suppress(QPrunerError):  # already in the finding
            store.delete_prefix(f"{folder}/")


def _round_trip(settings: Settings, store: ArtifactStore, key: str) -> Finding | None:
    content = os.urandom(1000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, _NAME)
        path.write_bytes(content)
        store.put_file(key, path)
    url = store.signed_url(key, expires_in=60, filename=_NAME, base_url=service_url(settings))
    try:
        fetched = httpx.get(url, timeout=_SECONDS)
        changed = httpx.get(_changed(url), timeout=_SECONDS)
    except httpx.HTTPError as error:
        return _without_server(store, key, url, error)
    if fetched.status_code != 200 or fetched.content != content:
        return failed(
            "store", f"a signed URL at {_origin(url)} returns {fetched.status_code} instead of the object",
            "Give the API the same store and QPRUNER_SIGNING_KEY, or correct QPRUNER_S3_PUBLIC_ENDPOINT_URL.",
        )  # fmt: skip
    if changed.status_code < 400:
        return failed("store", "Remove public access.", "Take away public access.")
    return None


def _without_server(store: ArtifactStore, key: str, url: str, error: httpx.HTTPError) -> Finding:
    if not isinstance(store, LocalStore):
        return failed(
            "store", f"signed URLs at {_origin(url)} are unreachable: {error}",
            "Correct QPRUNER_S3_PUBLIC_ENDPOINT_URL, which users must be able to reach.",
        )  # fmt: skip
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    store.signer.verify("GET", key, query["filename"], query["expires"], query["signature"], now=time.time())
    return warning(
        "store", f"{store}: stored, signed and deleted; {_origin(url)}, which serves the signed URLs, is unreachable",
        "Start it with `qpruner serve`, or correct QPRUNER_PUBLIC_URL.",
    )  # fmt: skip


def _changed(url: str) -> str:
    """``url`` with the last character of its signature changed."""
    name = "signature=" if "signature=" in url else "X-Amz-Signature="
    before, _, after = url.partition(name)
    signature, separator, rest = after.partition("&")
    other = "0" if signature[0] != "0" else "1"
    return f"{before}{name}{other}{signature[1:]}{separator}{rest}"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
