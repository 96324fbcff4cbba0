"""Uploaded datasets that this process has read from the database."""

from __future__ import annotations

from typing import NamedTuple

_MOST = 10_000


class UploadedDataset(NamedTuple):
    """Facts about the content, which never change, because an id always refers to the same content."""

    filename: str
    bytes: int
    sha256: str


class KnownUploads:
    """Uploads by tenant and id; safe to share between threads. One that is known may have been deleted since."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], UploadedDataset] = {}

    def get(self, tenant: str, dataset_id: str) -> UploadedDataset | None:
        """The upload, if it is known."""
        return self._found.get((tenant, dataset_id))

    def keep(self, tenant: str, dataset_id: str, upload: UploadedDataset) -> None:
        """Remember an upload that the tenant has."""
        if len(self._found) >= _MOST:
            self._found.clear()
        self._found[tenant, dataset_id] = upload
