"""Artifacts of a job for its user: checkpoints as deterministic tars, the report, the recipe and the model card."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qpruner_core.formats.declarations import FORMATS
from qpruner_core.stage_store import disk_full_as_error, file_sha256

DOCUMENTS = {"report.json": "json", "recipe.json": "json", "README.md": "markdown"}


@dataclass(frozen=True)
class ArtifactFile:
    """A file that is ready to be stored."""

    name: str
    format: str
    path: Path
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, format: str) -> ArtifactFile:
        """The artifact at ``path``, with its size and hash."""
        return cls(path.name, format, path, path.stat().st_size, file_sha256(path))


def pack_artifacts(output: Path, check: Callable[[], None] = lambda: None) -> Iterator[ArtifactFile]:
    """Every artifact of a finished run, one after another; a checkpoint's tar is deleted when the next one is
    requested.

    ``check`` is called before every packed file; an exception that it raises ends the iteration.
    """
    for kind in FORMATS:
        place = output / kind.place
        if not kind.is_directory and place.is_file():
            yield ArtifactFile.of(place, kind.artifact_format)
        elif kind.is_directory and place.is_dir():
            tar = output / kind.artifact
            try:
                with disk_full_as_error(output):
                    pack_directory(place, tar, check)
                yield ArtifactFile.of(tar, kind.artifact_format)
            finally:
                tar.unlink(missing_ok=True)
    for name, format in DOCUMENTS.items():
        if (output / name).is_file():
            yield ArtifactFile.of(output / name, format)


def pack_directory(directory: Path, target: Path, check: Callable[[], None] = lambda: None) -> None:
    """Write an uncompressed tar whose bytes depend only on the names and contents of the files.

    Members are sorted, lie under the directory's own name, and have fixed modes, no time and no owner.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in [directory, *sorted(directory.rglob("*"))]:
            check()
            name = path.relative_to(directory.parent).as_posix()
            if path.is_dir():
                tar.addfile(_member(name, tarfile.DIRTYPE, 0o755))
            else:
                member = _member(name, tarfile.REGTYPE, 0o644)
                member.size = path.stat().st_size
                with path.open("rb") as stream:
                    tar.addfile(member, stream)


def _member(name: str, type: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = type, mode
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
