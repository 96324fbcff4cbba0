"""From a reference to the local files of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qpruner_core.dataset_forms import FILE_REMEDY, SUFFIXES, file_format
from qpruner_core.errors import DatasetInvalidError, DatasetNotFoundError, DatasetTooLargeError
from qpruner_core.hub import HubRepository, parse_hub_id
from qpruner_core.local_paths import is_local_reference, resolve_local_path
from qpruner_core.sizes import format_bytes
from qpruner_core.source_policy import SourcePolicy

UPLOAD_PREFIX = "ds_"


def locate_dataset(reference: str, policy: SourcePolicy) -> tuple[Path, ...]:
    """Local files of ``reference``, within the size limit in all; hub files are downloaded.

    Raises as :func:`find_dataset` does.
    """
    files = find_dataset(reference, policy)
    return files.fetch(policy) if isinstance(files, HubDataset) else files


@dataclass(frozen=True)
class HubDataset:
    """Files of a hub dataset that would be read."""

    reference: str
    repository: HubRepository
    names: tuple[str, ...]

    @property
    def is_here(self) -> bool:
        """Whether all files are in the cache."""
        return self.repository.cached(self.names) is not None

    def fetch(self, policy: SourcePolicy) -> tuple[Path, ...]:
        """The files, downloaded if they are not in the cache."""
        directory = self.repository.download(self.names)
        files = tuple(directory / name for name in self.names)
        _check_size(sum(path.stat().st_size for path in files), self.reference, policy)
        return files


def find_dataset(reference: str, policy: SourcePolicy) -> tuple[Path, ...] | HubDataset:
    """Local files of ``reference``, or the hub files that it names; downloads nothing.

    Raises:
        DatasetNotFoundError, DatasetInvalidError, DatasetTooLargeError, PathNotAllowedError, HubUnavailableError.
    """
    if reference in policy.uploads:
        files: tuple[Path, ...] = (_existing(policy.uploads[reference], reference),)
    elif reference.startswith(UPLOAD_PREFIX) and "/" not in reference:
        raise DatasetNotFoundError(
            f"There is no uploaded dataset {reference!r}.", field="dataset", remedy="Upload it, or check its id."
        )
    elif is_local_reference(reference, policy):
        files = (_existing(resolve_local_path(reference, policy, "dataset"), reference),)
    else:
        return _on_hub(reference, policy)
    _check_size(sum(path.stat().st_size for path in files), reference, policy)
    return files


def _existing(path: Path, reference: str) -> Path:
    if not path.is_file():
        what = "a directory, not a file" if path.is_dir() else "missing"
        raise DatasetNotFoundError(f"The dataset {reference!r} is {what}.", field="dataset", remedy=FILE_REMEDY)
    target = path.resolve()
    if file_format(target.name) is not None:
        return target
    if file_format(path.name) is None:  # else a link whose name has the format, as in caches of hubs
        raise DatasetInvalidError(
            f"The dataset {reference!r} is of the unknown type {path.suffix!r}.",
            field="dataset",
            remedy=FILE_REMEDY,
        )
    return path


def _on_hub(reference: str, policy: SourcePolicy) -> HubDataset:
    hub_id = parse_hub_id(reference)
    if hub_id is None:
        raise DatasetNotFoundError(
            f"{reference!r} is not an existing file, an upload, or a hub dataset id.",
            field="dataset",
            remedy='Give a path that starts with "/", "./" or "~", an id such as "org/name@revision", '
            'or the id of an upload ("ds_…").',
        )
    repository = HubRepository(hub_id, policy, "dataset")
    names = _data_files(repository)
    _check_size(sum(repository.sizes[name] for name in names), reference, policy)
    return HubDataset(reference, repository, tuple(names))


def _data_files(repository: HubRepository) -> list[str]:
    """The files to read: the named one, or those of the training split in one format and one directory."""
    if repository.id.file is not None:
        if repository.id.file not in repository.sizes or file_format(repository.id.file) is None:
            raise DatasetNotFoundError(
                f"The hub dataset {repository.id.repository!r} has no data file {repository.id.file!r}.",
                field="dataset",
                remedy=f"Name one of its files after the colon. {FILE_REMEDY}",
            )
        return [repository.id.file]
    for suffix in SUFFIXES:
        names = sorted(name for name in repository.sizes if name.lower().endswith(suffix) and not _is_about(name))
        names = [name for name in names if "train" in PurePosixPath(name).name.lower()] or names
        if not names:
            continue
        is_prose = file_format(names[0]) == ".txt"
        if len({PurePosixPath(name).parent for name in names}) > 1 or (is_prose and len(names) > 1):
            raise DatasetInvalidError(
                f"The hub dataset {repository.id.repository!r} has several parts: {', '.join(names[:5])}.",
                field="dataset",
                remedy=f'Name the file: "{repository.id.repository}:{names[0]}".',
            )
        return names
    raise DatasetInvalidError(
        f"The hub dataset {repository.id.repository!r} has no data file; loading scripts are never run.",
        field="dataset",
        remedy=f"Export it and give that file. {FILE_REMEDY}",
    )


def _is_about(name: str) -> bool:
    """Whether the file describes the dataset instead of being part of it."""
    return PurePosixPath(name).name.lower() in (
        "dataset_infos.json", "dataset_info.json", "state.json", "readme.txt", "license.txt", "requirements.txt",
    )  # fmt: skip


def _check_size(size: int, reference: str, policy: SourcePolicy) -> None:
    if size > policy.max_dataset_bytes:
        raise DatasetTooLargeError(
            f"The dataset {reference!r} has {format_bytes(size)}; the limit of this installation is "
            f"{format_bytes(policy.max_dataset_bytes)}.",
            field="dataset",
            remedy="Give a part of it: a few megabytes of typical text are enough to calibrate and recover.",
        )
