"""A bucket of any S3-compatible server as a store; signed URLs are the server's own."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError

from app.settings import Settings
from app.store.content_disposition import attachment
from app.store.errors import StoreUnavailableError
from app.store.identity import MARKER, StoreIdentity, marker_content, parse_marker
from app.store.keys import check_key, check_prefix
from qpruner_core.stage_store import disk_full_as_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PartTypeDef

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 3.0  # for requests that move no data
_TRANSFER_SECONDS = 30.0  # between two pieces of data; a server may take a while to assemble a large object
_ATTEMPTS = 2
_READ_AGE = 5.0  # seconds that a check of the marker counts for reading; each write is preceded by its own
_LONGEST_MARKER = 4096
# No threads: a put is one of a stage's files in a supervisor that also renews a lease, and Ctrl-C must reach it.
_TRANSFER = TransferConfig(
    multipart_threshold=64 * 2**20, multipart_chunksize=64 * 2**20, use_threads=False, num_download_attempts=_ATTEMPTS
)
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class S3Store:
    """Objects below ``prefix`` in ``bucket``, which must exist. Credentials come from boto3's usual places."""

    def __init__(self, bucket: str, prefix: str, settings: Settings, identity: StoreIdentity) -> None:
        self.bucket = bucket
        self.identity = identity
        self.prefix = f"{prefix}/" if prefix else ""
        endpoint = settings.s3_endpoint_url
        with self._failures_as_unavailable():
            session = Session(region_name=settings.s3_region)
            self._control = _client(session, endpoint, _ANSWER_SECONDS)
            self._transfer = _client(session, endpoint, _TRANSFER_SECONDS)
            self._public = _client(session, settings.s3_public_endpoint_url or endpoint, _ANSWER_SECONDS)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``key`` atomically; in parts above 64 MiB."""
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "No file to store", str(path))
        self.identity.require(self)
        with self._failures_as_unavailable():
            self._transfer.upload_file(str(path), self.bucket, self._name(key), Config=_TRANSFER)

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to ``path`` atomically. Raises ``FileNotFoundError`` if there is none."""
        self.identity.require(self, max_age=_READ_AGE)
        partial = path.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            with disk_full_as_error(path.parent), self._failures_as_unavailable(key):
                self._transfer.download_file(self.bucket, self._name(key), str(partial), Config=_TRANSFER)
            partial.replace(path)
        except FileNotFoundError:
            self.identity.require(self)  # for another bucket it would be meaningless
            raise
        finally:
            partial.unlink(missing_ok=True)

    def link_file(self, key: str, path: Path) -> None:
        """As :meth:`get_file`."""
        self.get_file(key, path)

    def begin_upload(self, key: str, *, parts: int) -> str:
        """Begin a multipart upload, whose id is the token; one part alone is put as the object itself."""
        self.identity.require(self)
        with self._failures_as_unavailable():
            if parts == 1:
                return ""
            return self._control.create_multipart_upload(Bucket=self.bucket, Key=self._name(key))["UploadId"]

    def part_url(self, key: str, token: str, number: int, *, size: int, expires_in: int, base_url: str) -> str:
        """The server's own presigned URL, which is good for exactly ``size`` bytes."""
        self.identity.require(self, max_age=_READ_AGE)
        named = {"Bucket": self.bucket, "Key": self._name(key), "ContentLength": size}
        part = {"UploadId": token, "PartNumber": number} if token else {}
        with self._failures_as_unavailable():
            return self._public.generate_presigned_url(
                "upload_part" if token else "put_object", Params={**named, **part}, ExpiresIn=expires_in
            )

    def uploaded_parts(self, key: str, token: str) -> dict[int, int]:
        """Bytes of every received part, by number."""
        self.identity.require(self, max_age=_READ_AGE)
        if not token:
            size = self._size(key)
            return {} if size is None else {1: size}
        return {part["PartNumber"]: part["Size"] for part in self._parts(key, token)}

    def finish_upload(self, key: str, token: str) -> None:
        """Complete the multipart upload; the server puts the object together."""
        self.identity.require(self)
        if token and (parts := self._parts(key, token)):
            named = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
            with self._failures_as_unavailable():
                self._transfer.complete_multipart_upload(
                    Bucket=self.bucket, Key=self._name(key), UploadId=token,
                    MultipartUpload={"Parts": named},  # type: ignore[typeddict-item]
                )  # fmt: skip
        elif self._size(key) is None:
            raise FileNotFoundError(errno.ENOENT, "No part of the object is in the store", key)

    def _parts(self, key: str, token: str) -> list[PartTypeDef]:
        """All parts of an upload; none if it is finished or was aborted."""
        pages = self._control.get_paginator("list_parts").paginate(
            Bucket=self.bucket, Key=self._name(key), UploadId=token
        )
        with self._failures_as_unavailable():
            try:
                return [part for page in pages for part in page.get("Parts", [])]
            except ClientError as error:
                if _code(error) in _MISSING | {"NoSuchUpload"}:
                    return []
                raise

    def _size(self, key: str) -> int | None:
        with self._failures_as_unavailable():
            try:
                return self._control.head_object(Bucket=self.bucket, Key=self._name(key))["ContentLength"]
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise

    def delete_prefix(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        """Delete every object whose key begins with ``prefix``, except those of ``keep``, and every unfinished upload;
        none is fine."""
        start = self.prefix + check_prefix(prefix)
        kept = tuple(self.prefix + other for other in keep)
        self.identity.require(self)
        with self._failures_as_unavailable():
            self._abort_uploads(start)
            # One by one: the bulk request needs a checksum whose kind differs between servers.
            for page in self._control.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start):
                for entry in page.get("Contents", []):
                    if not entry["Key"].startswith(kept):
                        self._control.delete_object(Bucket=self.bucket, Key=entry["Key"])

    def _abort_uploads(self, start: str) -> None:
        try:
            for page in self._control.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=start
            ):
                for upload in page.get("Uploads", []):
                    self._control.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
        except ClientError as error:
            if (
                _code(error) != "NoSuchUpload"
            ):  # it has just ended; also the response of some servers when there is none
                raise

    def signed_url(self, key: str, *, expires_in: int, filename: str, base_url: str) -> str:
        """The server's own presigned URL, at the public endpoint if there is one; ``base_url`` is not used."""
        self.identity.require(self, max_age=_READ_AGE)
        with self._failures_as_unavailable():
            return self._public.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": self._name(key),
                    "ResponseContentDisposition": attachment(filename),
                },
                ExpiresIn=expires_in,
            )

    def check(self) -> None:
        """Return if the bucket is ours and an object can be put and deleted."""
        probe = f"{self.prefix}.probe-{uuid.uuid4().hex}"
        self.identity.require(self)
        with self._failures_as_unavailable():
            self._control.put_object(Bucket=self.bucket, Key=probe, Body=b"probe")
            self._control.delete_object(Bucket=self.bucket, Key=probe)

    def read_marker(self) -> str | None:
        """The id in the marker; ``None`` if there is no marker, ``""`` if it is unreadable."""
        with self._failures_as_unavailable():
            try:
                found = self._control.get_object(Bucket=self.bucket, Key=self.prefix + MARKER)
                return parse_marker(found["Body"].read(_LONGEST_MARKER))
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise

    def write_marker(self, store_id: str) -> None:
        """Write the marker; the bucket must exist."""
        with self._failures_as_unavailable():
            self._control.put_object(Bucket=self.bucket, Key=self.prefix + MARKER, Body=marker_content(store_id))

    def holds(self, key: str) -> bool:
        """Whether there is an object at ``key``, whatever the marker says."""
        return self._size(key) is not None

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    @contextmanager
    def _failures_as_unavailable(self, key: str | None = None) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if key is not None and _code(error) in _MISSING:
                raise FileNotFoundError(errno.ENOENT, "No object in the store at this key", key) from error
            raise self._unavailable(error) from error
        except (BotoCoreError, Boto3Error, RetriesExceededError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"The store's bucket {self.bucket!r} cannot be used: {error}.",
            remedy="Create the bucket, check QPRUNER_S3_ENDPOINT_URL, and provide credentials with write access.",
        )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _client(session: Session, endpoint: str | None, read_seconds: float) -> S3Client:
    return session.client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            signature_version="s3v4",
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=read_seconds,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            s3={"addressing_style": "path" if endpoint else "auto"},
            # Checksums beyond SigV4's own are AWS's: other servers refuse or mangle them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
