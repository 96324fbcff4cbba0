"""What a benchmark writes: looked at before it measures, so that hours of work have a place, and nobody's file goes."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from qpruner_core.errors import InvalidConfigError, OutputInvalidError
from qpruner_core.writable import require_writable


def require_own_document(document: Path, title: str, figures: type[BaseModel]) -> None:
    """As :func:`require_own_page` for ``document``, and for the file of its ``figures`` beside it.

    Raises:
        InvalidConfigError: the document is not called ``.md``.
    """
    if document.suffix != ".md":
        raise InvalidConfigError(
            f"{document} is no markdown file.", field="output", remedy="Give a name that ends in .md."
        )
    require_own_page(document, title)
    require_own_figures(document.with_suffix(".json"), figures)


def require_own_page(page: Path, title: str, field: str = "output") -> None:
    """Raise unless ``page`` can be written and is, if it exists, one that begins with the line ``title``.

    Raises:
        OutputInvalidError: it cannot be written, or is something else.
        DiskFullError: no space is left there.
    """
    _require_file(page, field)
    if page.exists() and page.read_text(encoding="utf-8", errors="replace").partition("\n")[0] != title:
        raise _foreign(page, field)


def require_own_figures(file: Path, figures: type[BaseModel], field: str = "output") -> None:
    """As :func:`require_own_page` for a JSON file of ``figures``."""
    _require_file(file, field)
    if file.exists():
        try:
            figures.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise _foreign(file, field) from error


def _require_file(path: Path, field: str) -> None:
    require_writable(path.parent.resolve(), field, longest=path.name)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputInvalidError(f"{path} is not a file.", field=field, remedy="Name another file.")


def _foreign(path: Path, field: str) -> OutputInvalidError:
    return OutputInvalidError(
        f"{path} was not written by this benchmark.", field=field, remedy="Name another file, or move that one away."
    )
