"""The directory that a run hands its result out in: replaced as a whole, and never what QPruner did not write.

What an earlier run wrote is known by the hashes of its ``report.json``. The new files are first put together in
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
"""A path as long as any within the directory that formats are written to."""
_LARGEST_REPORT = 64 * 2**20
_Signature = tuple[int, int, int]


class OutputDirectory:
    """The directory ``root``, whether or not it exists."""

    longest = f"{_PARTIAL}/{LONGEST_CHECKPOINT_FILE}"
    """A path below it as long as any that is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, tuple[_Signature, str]] = {}

    def replaced(self) -> list[Path]:
        """Every path that a run replaces, with all that lies below it."""
        return [self.root / name for name in (*_REPLACED, _PARTIAL)]

    def refuse_foreign(self) -> None:
        """Raise :class:`OutputInvalidError` if what a run replaces holds anything that no earlier run wrote, or that
        was changed since; names the first of these."""
        try:
            self._refuse_foreign()
        except OSError as error:
            raise OutputInvalidError(
                f"{error.filename or self.root} of an earlier run cannot be replaced: {error.strerror or error}.",
                field="output",
                remedy="Mend its permissions, or choose another output.",
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
                raise _foreign(path, "was changed since an earlier run wrote it")

    def _files(self) -> Iterator[Path]:
        """What exists of :attr:`_REPLACED`: files, links and whatever else is no directory of its own."""
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
        """The file's hash, computed once as long as the file looks the same."""
        status = path.stat()
        signature = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._known.get(path)
        if known is None or known[0] != signature:
            known = self._known[path] = (signature, file_sha256(path))
        return known[1]

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """An empty directory to put the new files into, :data:`REPORT` last; they then take the place of what an
        earlier run wrote. Nothing changes if the block raises.

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
            self.refuse_foreign()  # what was put there meanwhile
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._swap(partial)
        shutil.rmtree(partial)

    def _swap(self, partial: Path) -> None:
        """Let the new files take the place of the old ones; may be called again after it was cut off."""
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
    """Path -> SHA-256 of the files that the runs of ``reports`` wrote; of the reports themselves none is known."""
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
        f"{str(path)!r} is in the way of the result: it {what}.",
        field="output",
        remedy="Choose another output directory, or move that file away: only what QPruner wrote is ever overwritten.",
    )


def _raise(error: OSError) -> None:
    raise error
