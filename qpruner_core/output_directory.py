"""Output directory of a run: its content is replaced as a whole, and files that QPruner did not write are never
touched.

Files of an earlier run are known by the hashes in its ``report.json``. New files are first collected in
``.qpruner.partial`` beside the old ones, with their own report, and then renamed, the report last: whenever a run is
killed, each file is known by one of the two reports.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from qpruner_core.errors import OutputInvalidError
from qpruner_core.export.config import CARD, RECIPE
from qpruner_core.formats.declarations import FORMATS
from qpruner_core.report import CompressionReport
from qpruner_core.stage_store import file_sha256
from qpruner_core.writable import require_access

REPORT = "report.json"
_PARTIAL = ".qpruner.partial"
_REPLACED: tuple[str, ...] = (*(one.place for one in FORMATS), RECIPE, CARD, REPORT)  # the report last
_DIRECTORIES = frozenset(one.place for one in FORMATS if one.is_directory)
LONGEST_CHECKPOINT_FILE = f"{max((one.place for one in FORMATS), key=len)}/additional_chat_templates/{'x' * 64}"
"""A path as long as any within the directory of the formats."""
_LARGEST_REPORT = 64 * 2**20
_Signature = tuple[int, int, int]


class OutputDirectory:
    """The output directory ``root``, which need not exist."""

    longest = f"{_PARTIAL}/{LONGEST_CHECKPOINT_FILE}"
    """A path below it as long as any that is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, tuple[_Signature, str]] = {}

    def replaced(self) -> list[Path]:
        """Every path that a run replaces, including its content."""
        return [self.root / name for name in (*_REPLACED, _PARTIAL)]

    def refuse_foreign(self) -> None:
        """Raise :class:`OutputInvalidError` for the first file in a replaced path that no earlier run wrote, or that
        has changed since."""
        try:
            self._refuse_foreign()
        except OSError as error:
            raise OutputInvalidError(
                f"{error.filename or self.root} of an earlier run cannot be replaced: {error.strerror or error}.",
                field="output",
                remedy="Correct its permissions, or choose another output.",
            ) from error

    def _refuse_foreign(self) -> None:
        partial = self.root / _PARTIAL
        if partial.is_symlink() or (partial.exists() and not partial.is_dir()):
            raise _foreign(partial, "is not a directory of an earlier run")
        written = _written(self.root / REPORT, partial / REPORT)
        for path in self._files():
            name = path.relative_to(self.root).as_posix()
            if name == REPORT and REPORT in written and not path.is_symlink():
                continue
            if name not in written or path.is_symlink() or not path.is_file():
                raise _foreign(path, "was not written by an earlier run")
            if self._sha256(path) not in written[name]:
                raise _foreign(path, "has changed since an earlier run wrote it")

    def _files(self) -> Iterator[Path]:
        """Existing paths of :attr:`_REPLACED`: files, links and anything else that is not a real directory."""
        for name in _REPLACED:
            path = self.root / name
            if path.is_dir() and not path.is_symlink() and name in _DIRECTORIES:
                for folder, folders, files in os.walk(path, onerror=_raise):
                    require_access(Path(folder))
                    links = [one for one in folders if (Path(folder) / one).is_symlink()]
                    yield from (Path(folder) / one for one in sorted((*files, *links)))
            elif os.path.lexists(path):
                yield path

    def _sha256(self, path: Path) -> str:
        """The file's hash, cached while the file looks the same."""
        status = path.stat()
        signature = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._known.get(path)
        if known is None or known[0] != signature:
            known = self._known[path] = (signature, file_sha256(path))
        return known[1]

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """Context manager: an empty directory for the new files, :data:`REPORT` last, which then replace those of an
        earlier run. Nothing changes if the block raises.

        Raises:
            OutputInvalidError: as :meth:`refuse_foreign`.
        """
        self.refuse_foreign()
        partial = self.root / _PARTIAL
        if _written(partial / REPORT):
            self._swap(partial)  # of a run that was killed in the middle of it
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            self.refuse_foreign()  # files that appeared meanwhile
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._swap(partial)
        shutil.rmtree(partial)

    def _swap(self, partial: Path) -> None:
        """Replace the old files by the new ones; can be repeated after an interruption."""
        names = {path.partition("/")[0] for path in _written(partial / REPORT)}
        for name in _REPLACED:
            old, new = self.root / name, partial / name
            if name in names and not new.exists():
                continue  # renamed before
            if old.is_dir():
                shutil.rmtree(old)
            if new.exists():
                new.replace(old)
            elif old.exists():
                old.unlink()


def _written(*reports: Path) -> dict[str, set[str]]:
    """Path -> SHA-256 of the files that the runs of ``reports`` wrote; the reports themselves have none."""
    written: dict[str, set[str]] = {}
    for report in reports:
        if report.is_symlink() or not report.is_file() or report.stat().st_size > _LARGEST_REPORT:
            continue
        with suppress(ValidationError):
            files = CompressionReport.model_validate_json(report.read_bytes()).files
            written.setdefault(REPORT, set())
            for file in files:
                written.setdefault(file.path, set()).add(file.sha256)
    return written


def _foreign(path: Path, what: str) -> OutputInvalidError:
    return OutputInvalidError(
        f"{str(path)!r} cannot be replaced by the result: it {what}.",
        field="output",
        remedy=(
            "Choose another output directory, or move that file away: only files that QPruner wrote are overwritten."
        ),
    )


def _raise(error: OSError) -> None:
    raise error
