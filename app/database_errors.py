"""Database errors, as one sentence for the operator."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, ProgrammingError, SQLAlchemyError

from qpruner_core.errors import QPrunerError

_LOOK = "Check QPRUNER_DATABASE_URL."
_FOR_NOW = ("starting up", "shutting down", "too many clients", "too many connections", "remaining connection slots",
            "recovery mode")  # fmt: skip


class DatabaseUnavailableError(QPrunerError):
    """The database is unreachable for now."""

    code = "database_unavailable"
    exit_code = 3


class DatabaseUnusableError(QPrunerError):
    """The database is the wrong one, or rejects the login; waiting would not help."""

    code = "database_unusable"
    exit_code = 2


class SchemaMismatchError(QPrunerError):
    """The database's schema belongs to another release."""

    code = "schema_mismatch"
    exit_code = 2


def explain(error: SQLAlchemyError) -> QPrunerError:
    """``error`` as an error with a remedy; without password and statement."""
    if not isinstance(error, DBAPIError):
        return DatabaseUnusableError(_first_line(error), field="database_url", remedy=_LOOK)
    said = _first_line(error.orig or error)
    if type(error.orig).__module__.startswith("sqlite3"):
        return _of_sqlite(said)
    refused = "FATAL:" in said or isinstance(error, ProgrammingError) or _has_state(error)
    if refused and not any(phrase in said for phrase in _FOR_NOW):
        return DatabaseUnusableError(
            f"The database refuses: {said}.", field="database_url",
            remedy="Check name, user, password and rights in QPRUNER_DATABASE_URL.",
        )  # fmt: skip
    return DatabaseUnavailableError(f"The database is unreachable: {said}.", field="database_url", remedy=_LOOK)


def _has_state(error: DBAPIError) -> bool:
    """Whether the server itself has responded, with an error other than its shutdown."""
    state = getattr(error.orig, "sqlstate", None)
    return state is not None and not str(state).startswith(("08", "53", "57"))


def _of_sqlite(said: str) -> QPrunerError:
    if "not a database" in said or "malformed" in said:
        return DatabaseUnusableError(
            "The SQLite file is damaged, or is not a database.", field="database_url",
            remedy="Restore it from a copy, or move it away to start with an empty one.",
        )  # fmt: skip
    if "unable to open" in said or "readonly" in said:
        return DatabaseUnusableError(
            f"The SQLite file cannot be used: {said}.", field="database_url",
            remedy="Its folder must exist, and the service's user must be able to write to both.",
        )  # fmt: skip
    return DatabaseUnavailableError(f"The database is unreachable: {said}.", field="database_url", remedy=_LOOK)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL:" in line]
    return (fatal or lines or [type(error).__name__])[0].rstrip(".")
