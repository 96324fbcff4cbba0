"""The command line of a study: options that all have, the exit status, and the page that is written."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from bench.study.own_files import require_own_document, require_own_page
from qpruner_core.errors import InvalidConfigError, QPrunerError

AnyReport = TypeVar("AnyReport", bound=BaseModel)


def finished(work: Callable[[], None]) -> int:
    """Do ``work``; the exit status. Ended by a signal or an error of ours, it says so in words."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work()
    except KeyboardInterrupt:
        print("\nEnded. What is finished is kept: the same command goes on behind it.", file=sys.stderr)
        return 130
    except QPrunerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def page_parser(description: str | None) -> argparse.ArgumentParser:
    """Options of a study whose result is one page."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the benchmark's texts (default: Python's own prose)")
    parser.add_argument("--markdown", type=Path, help="write the page here too")
    return parser


def write_page(options: argparse.Namespace, title: str, pages: Callable[[], Iterator[str]]) -> int:
    """Print the last of ``pages``, each written to ``--markdown`` as soon as it exists; the exit status."""

    def work() -> None:
        if options.markdown is not None:
            require_own_page(options.markdown, title, "markdown")
        page = ""
        for page in pages():
            if options.markdown is not None:
                options.markdown.parent.mkdir(parents=True, exist_ok=True)
                options.markdown.write_text(page, encoding="utf-8")
        print(page)

    return finished(work)


@contextmanager
def work_folder(named: Path | None) -> Iterator[Path]:
    """The folder ``named``, made if it is missing, or a temporary one."""
    if named is not None:
        named.mkdir(parents=True, exist_ok=True)
        yield named
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


@dataclass(frozen=True)
class Document(Generic[AnyReport]):
    """A page with its raw figures beside it as JSON; ``render`` draws pictures beside the path and gives the page."""

    title: str
    report: type[AnyReport]
    render: Callable[[AnyReport, Path], str]

    def publish(self, path: Path, measure: Callable[[], AnyReport] | None) -> int:
        """Write the figures that ``measure`` finds, if it is given, and draw the page from them; the exit status."""

        def work() -> None:
            require_own_document(path, self.title, self.report)
            figures = path.with_suffix(".json")
            if measure is not None:
                report = measure()
                path.parent.mkdir(parents=True, exist_ok=True)
                figures.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
            path.write_text(self.render(read_figures(figures, self.report), path), encoding="utf-8")
            print(f"Written: {path}")

        return finished(work)


def document_parser(program: str, description: str | None, document: Path, work: Path) -> argparse.ArgumentParser:
    """Options of a study whose result is a :class:`Document` and whose rows are kept in ``work``."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--data", type=Path, help="folder with text/ and eval/; without it: Python's own help")
    parser.add_argument("--note", default="", help="what else must be known of how the rows came about")
    parser.add_argument("--collect", action="store_true", help="measure nothing: take the rows that there are")
    parser.add_argument("--output", type=Path, default=document, help="the document (default %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=work, help="where rows are kept (default %(default)s)")
    return parser


def read_figures(file: Path, report: type[AnyReport]) -> AnyReport:
    """The raw figures in ``file``.

    Raises:
        InvalidConfigError: it does not exist.
    """
    if not file.is_file():
        raise InvalidConfigError(f"{file} does not exist.", field="output", remedy="Run the benchmark first.")
    return report.model_validate_json(file.read_bytes())
