"""Repositories of a model hub: references, file lists, safe downloads, and errors."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from qpruner_core.errors import (
    DatasetNotFoundError,
    HubUnavailableError,
    ModelGatedError,
    ModelNotFoundError,
    PathNotAllowedError,
    UserError,
)
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage_store import disk_full_as_error
from qpruner_core.writable import cache_errors

RepositoryKind = Literal["model", "dataset"]
_HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[^\x00:]+))?")
_READ_SECONDS = 10.0
_PARTIAL, _NO_SUCH_RANGE = 206, 416
_COMMIT = re.compile(r"[0-9a-f]{40}")
# HfHubHTTPError derives from the base error of the HTTP client that huggingface_hub uses, whichever that is
_CLIENT_ERROR: type[Exception] = next(
    base for base in HfHubHTTPError.__bases__ if base.__name__ == "HTTPError" and issubclass(base, Exception)
)


@dataclass(frozen=True)
class HubId:
    """``org/name[@revision][:file]``."""

    repository: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        return (
            self.repository
            + (f"@{self.revision}" if self.revision else "")
            + (f":{self.file}" if self.file else "")
        )  # fmt: skip


def parse_hub_id(reference: str) -> HubId | None:
    """The parts of ``org/name[@revision][:file]``, or ``None`` if ``reference`` has another form."""
    match = _HUB_ID.fullmatch(reference)
    return None if match is None else HubId(match["repository"], match["revision"], match["file"])


class HubRepository:
    """One repository at one commit of the hub. Opening it sends one request for its commit and its files.

    Raises:
        ModelNotFoundError, DatasetNotFoundError: no such repository, revision or file.
        ModelGatedError: the hub requires an accepted licence or a token.
        HubUnavailableError: the hub is unreachable, and the commit is not in the cache.
        PathNotAllowedError: this installation may not read the hub.
        CacheUnusableError: the cache directory cannot be read or written.
    """

    def __init__(self, hub_id: HubId, policy: SourcePolicy, kind: RepositoryKind) -> None:
        if not policy.allow_hub:
            raise PathNotAllowedError(
                f"This installation does not read from a hub, so {str(hub_id)!r} cannot be downloaded.",
                field=kind,
                remedy="Give a local path, or ask the operator to allow the hub.",
            )
        self.id = hub_id
        self.kind = kind
        self._cache = policy.cache_dir / "hub"
        token = policy.hub_token or (None if policy.implicit_login else False)
        self.api = HfApi(endpoint=policy.hub_endpoint, token=token)
        self._is_away = False
        with self.errors():
            self._folder = self._cache / repo_folder_name(repo_id=hub_id.repository, repo_type=kind)
        self.commit, self.sizes = self._look()

    def _look(self) -> tuple[str, dict[str, int]]:
        """The commit, and the bytes of every file by path; stored for when the hub is unreachable."""
        revision = self.id.revision
        try:
            with self.errors():
                info = self.api.repo_info(
                    self.id.repository, revision=revision, repo_type=self.kind, files_metadata=True
                )
        except HubUnavailableError:
            listing = self._listing(revision or "")
            if not _COMMIT.fullmatch(revision or "") or not listing.is_file():  # a branch may have moved meanwhile
                raise
            self._is_away = True
            return listing.stem, json.loads(listing.read_text())
        siblings = getattr(info, "siblings", None) or []
        sizes = {file.rfilename: file.size or 0 for file in siblings if _stays_inside(file.rfilename)}
        commit = info.sha or revision or "main"
        self._remember(commit, sizes)
        return commit, sizes

    def _listing(self, commit: str) -> Path:
        return self._folder / "listings" / f"{commit}.json"

    def _remember(self, commit: str, sizes: dict[str, int]) -> None:
        path = self._listing(commit)
        with disk_full_as_error(self._cache), cache_errors(self._cache):
            if path.is_file():
                return  # a commit never changes, and a complete cache may be read-only
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            partial.write_text(json.dumps(sizes))
            partial.replace(path)

    def cached(self, files: Sequence[str]) -> Path | None:
        """The directory that holds ``files`` if all of them are in the cache."""
        snapshot = self._folder / "snapshots" / self.commit
        with cache_errors(self._cache):
            return snapshot if all((snapshot / name).is_file() for name in files) else None

    def download(self, files: Sequence[str]) -> Path:
        """Download ``files`` (exact paths) into the cache and return the directory that holds them.

        May be called again after an interruption: finished files are kept, and a partial one resumes.
        """
        snapshot = self._folder / "snapshots" / self.commit
        with disk_full_as_error(self._cache), cache_errors(self._cache), self.errors():
            for name in files:
                self.api.hf_hub_download(
                    self.id.repository,
                    name,
                    repo_type=self.kind,
                    revision=self.commit,
                    cache_dir=self._cache,
                    local_files_only=self._is_away,  # the client would retry for half a minute
                )
        return snapshot

    def read(self, name: str, start: int, count: int) -> bytes:
        """Up to ``count`` bytes of the file ``name`` from ``start``; fewer at its end."""
        if self._is_away:
            raise self._away()
        url = hf_hub_url(
            self.id.repository, name, repo_type=self.kind, revision=self.commit, endpoint=self.api.endpoint
        )  # fmt: skip
        headers = build_hf_headers(token=self.api.token) | {"Range": f"bytes={start}-{start + count - 1}"}
        data = bytearray()
        with self.errors(), get_session().stream("GET", url, headers=headers, timeout=_READ_SECONDS) as response:
            if response.status_code == _NO_SUCH_RANGE:
                return b""
            hf_raise_for_status(response)
            skipped = start if response.status_code != _PARTIAL else 0  # of a hub without range requests
            for piece in response.iter_bytes():
                data += piece
                if len(data) >= skipped + count:
                    break
        return bytes(data[skipped : skipped + count])

    def small(self, name: str, most_bytes: int) -> Path:
        """The file ``name``; at most one byte more than ``most_bytes`` is downloaded."""
        whole = self.cached([name])
        if whole is not None:
            return whole / name
        path = self.header_path(name)
        with disk_full_as_error(self._cache), cache_errors(self._cache):
            if not path.is_file():
                data = self.read(name, 0, most_bytes + 1)
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
                partial.write_bytes(data)
                partial.replace(path)
        return path

    def header_path(self, name: str) -> Path:
        """Cache path of the beginning of the file ``name``, separate from complete files."""
        return self._folder / "headers" / self.commit / name

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate the hub client's errors into ours."""
        try:
            yield
        except (GatedRepoError, RepositoryNotFoundError) as error:
            raise self._refused() if isinstance(error, GatedRepoError) else self._missing() from error
        except (RevisionNotFoundError, HFValidationError) as error:
            raise self._missing() from error
        except LocalEntryNotFoundError as error:  # the client's message for "not cached, and the hub is unreachable"
            raise self._away() from error
        except EntryNotFoundError as error:
            raise self._missing() from error
        except HfHubHTTPError as error:
            refused = error.response is not None and error.response.status_code in (401, 403)
            raise self._refused() if refused else self._away() from error
        except (_CLIENT_ERROR, OfflineModeIsEnabled, RevisionResolutionError, ConnectionError, TimeoutError) as error:
            raise self._away() from error

    def _missing(self) -> UserError:
        error = ModelNotFoundError if self.kind == "model" else DatasetNotFoundError
        return error(
            f"The hub has no {self.kind} {str(self.id)!r}, or it is private.",
            field=self.kind,
            remedy="Check the spelling and the revision; a private repository needs a hub token.",
        )

    def _refused(self) -> UserError:
        error = ModelGatedError if self.kind == "model" else DatasetNotFoundError
        return error(
            f"The hub refuses access to the {self.kind} {self.id.repository!r}: it is gated.",
            field=self.kind,
            remedy="Accept its licence on the hub and set a token of that account, or use another one.",
        )

    def _away(self) -> HubUnavailableError:
        return HubUnavailableError(
            f"The hub at {self.api.endpoint} is unreachable ({str(self.id)!r}).",
            field=self.kind,
            remedy="Try again later, or give a local path.",
        )


def _stays_inside(name: str) -> bool:
    """Whether a path from the hub lies inside its destination directory."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name
