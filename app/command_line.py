"""What every command of the service begins and ends with: settings, and errors as exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from rich.console import Console

from app.settings import Settings
from qpruner_core.errors import InvalidConfigError, QPrunerError
from qpruner_core.strict import fault_as_sentence
from qpruner_core.writable import require_writable

_errors = Console(stderr=True, highlight=False)


def load_settings() -> Settings:
    """The settings. Raises :class:`InvalidConfigError` that names the variable at fault."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidConfigError(
            fault_as_sentence(first["msg"]),
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
    from sqlalchemy.exc import OperationalError  # half of the time that every command would take to start

    try:
        yield
    except QPrunerError as error:
        _errors.print(f"[red]{error.code}[/red]", end=" ")
        _errors.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    except OperationalError as error:
        _errors.print("[red]database_unavailable[/red]", end=" ")
        _errors.print(f"{error.orig} Look at QPRUNER_DATABASE_URL.", markup=False, soft_wrap=True)
        raise typer.Exit(3) from error
