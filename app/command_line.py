"""Common start and end of every service command: settings, and errors as exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from rich.console import Console

from app.settings import Settings
from qpruner_core.errors import InvalidConfigError, OutputInvalidError, QPrunerError
from qpruner_core.plain_faults import plain_fault
from qpruner_core.writable import require_writable

_errors = Console(stderr=True, highlight=False)


def load_settings() -> Settings:
    """The settings. Raises :class:`InvalidConfigError` for the invalid variable."""
    try:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfigError(
            f"The file .env cannot be read: {error}.", remedy="Save it as a UTF-8 text file that the service may read."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidConfigError(
            plain_fault(first),
            field=f"QPRUNER_{name.upper()}",
            remedy="Correct the environment variable or .env.",
        ) from error


def settings_to_write_with() -> Settings:
    """The settings, after checking that the data folder is writable if it holds the database."""
    settings = load_settings()
    if settings.database_url is None:
        require_writable(settings.data_dir.resolve(), "data_dir")
    return settings


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Print an error in one line on standard error, and exit with its code."""
    from sqlalchemy.exc import SQLAlchemyError  # half of the start-up time of a command

    from app.database_errors import explain

    try:
        yield
    except QPrunerError as error:
        raise _exit(error) from error
    except SQLAlchemyError as error:
        raise _exit(explain(error)) from error
    except OSError as error:
        raise _exit(_of_file_system(error)) from error


def _exit(error: QPrunerError) -> typer.Exit:
    _errors.print(f"[red]{error.code}[/red]", end=" ")
    _errors.print(str(error), markup=False, soft_wrap=True)
    return typer.Exit(error.exit_code)


def _of_file_system(error: OSError) -> QPrunerError:
    """The error of a file or folder of the service that blocks a path or has wrong permissions."""
    place = f"{error.filename} cannot be used" if error.filename else "The system refuses"
    return OutputInvalidError(
        f"{place}: {error.strerror or error}.",
        field="data_dir",
        remedy="Correct its permissions, or set QPRUNER_DATA_DIR to another folder.",
    )
