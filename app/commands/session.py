"""Common parts of all commands about a service: its address, its key, and errors as exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from qpruner_client import (
    ApiError,
    Client,
    ClientError,
    ConnectionFailedError,
    JobCancelledError,
    JobFailedError,
    ServiceUnavailableError,
    SettingsError,
    TooManyRequestsError,
    UploadFailedError,
    profiles,
)
from qpruner_core.errors import QPrunerError

Server = Annotated[
    str | None,
    typer.Option("--server", help="Address of the service, or its name in `qpruner servers`; default: QPRUNER_SERVER."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
# A file or a pipe has no width to fit into: an id broken over two lines is useless there
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
errors = Console(stderr=True, highlight=False)


def server_and_key(named: str | None) -> tuple[str | None, str | None]:
    """Address and key of ``--server``: an address, or the name of a profile. Without it, ``QPRUNER_SERVER``, else the
    default profile. The key of a profile takes precedence over ``QPRUNER_API_KEY``.

    Raises:
        SettingsError: there is no such profile.
    """
    named = named or os.environ.get("QPRUNER_SERVER")
    key = os.environ.get("QPRUNER_API_KEY")
    if named is not None and "://" in named:
        return named, key
    known = profiles.load()
    name = named or known.default
    if name is None:
        return None, key
    profile = known.find(name)
    return profile.url, profile.api_key or key


@contextmanager
def connected(server: str | None, as_json: bool = False) -> Iterator[Client]:
    """A client of the service; every failure is printed and becomes the exit code."""
    with errors_as_exit_codes(as_json):
        url, key = server_and_key(server)
        with Client(url, key) as client:
            yield client


@contextmanager
def errors_as_exit_codes(as_json: bool = False) -> Iterator[None]:
    """2: invalid request; 3: service unavailable; 130: cancelled; 1: anything else."""
    try:
        yield
    except (ClientError, QPrunerError) as error:
        told = {"code": error.code, "message": error.message, "field": error.field, "remedy": error.remedy}
        if as_json:
            out.print_json(json.dumps({"error": told}))
        else:
            errors.print(f"[red]{error.code}[/red]", end=" ")
            where = f"{error.field}: " if error.field else ""
            errors.print(f"{where}{error.message} {error.remedy}".rstrip(), markup=False, soft_wrap=True)
        raise typer.Exit(_exit_code(error)) from error
    except KeyboardInterrupt:
        errors.print("Interrupted. Jobs on the service keep running.")
        raise typer.Exit(130) from None


def print_json(value: Any) -> None:
    """Print ``value`` as the one document of ``--json``."""
    out.print_json(json.dumps(value))


def _exit_code(error: ClientError | QPrunerError) -> int:
    match error:
        case QPrunerError():
            return error.exit_code
        case JobCancelledError():
            return 130
        case JobFailedError() | UploadFailedError():
            return 2 if error.user else 1
        case ConnectionFailedError() | ServiceUnavailableError() | TooManyRequestsError():
            return 3
        case ApiError():
            return 2 if error.status < 500 else 1
        case SettingsError():
            return 2
    return 1
