"""What every command of the service begins and ends with: settings, and errors as exit codes."""

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
    """The settings. Raises :class:`InvalidConfigError` that names the variable at fault."""
    try:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfigError(
            f"The file .env cannot be read: {error}.", remedy="Make it a text file in UTF-8 that the service may read."
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
    """The settings, once the data folder is known to be writable, if the database lies there."""
    settings = load_settings()
    if settings.database_url is None:
        require_writable(settings.data_dir.resolve(), "data_dir")
    return settings


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Print an error in a line on standard error, and exit with its code."""
    from sqlalchemy.exc import SQLAlchemyError  # half of the time that every command would take to start

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
    """A file or a folder of the service that is in the way, or that its user may not use."""
    place = f"{error.filename} cannot be used" if error.filename else "The system refuses"
    return OutputInvalidError(
        f"{place}: {error.strerror or error}.",
        field="data_dir",
        remedy="Mend its permissions, or set QPRUNER_DATA_DIR to another folder.",
    )
