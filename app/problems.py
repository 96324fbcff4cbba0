"""Errors as RFC 9457 problem documents: one shape, stable codes, the invalid field, and a remedy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException as StarletteHTTPException

from app.store import StoreUnavailableError
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import (
    BudgetInfeasibleError,
    DatasetTooLargeError,
    DiskFullError,
    HubUnavailableError,
    QPrunerError,
    UserError,
)
from qpruner_core.plain_faults import plain_fault
from qpruner_core.unknown_setting import unknown_setting

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
MOST_FAULTS = 20
_LONGEST_FIELD = 200
_LONGEST_DETAIL = 1000
_NO_SUCH_TABLE_OR_COLUMN = ("42P01", "42703")  # PostgreSQL's; SQLite says OperationalError


class Fault(BaseModel):
    """One of several errors in a request."""

    field: str | None = Field(description="Dotted path of the invalid value.", examples=["prune.ratio"])
    detail: str


class ProblemDocument(BaseModel):
    """The body of every error (RFC 9457). `code` is stable; `detail` and `remedy` are for people."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(description="A URN that ends in the code.", examples=["urn:qpruner:problem:budget_invalid"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable identifier of the kind of error.", examples=["budget_invalid"])
    field: str | None = Field(default=None, description="Dotted path of the invalid value.")
    remedy: str = Field(default="", description="Suggested remedy.")
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="The value of the header X-Request-Id; identifies the request in the log.")
    errors: list[Fault] = Field(
        default=[],
        max_length=MOST_FAULTS,
        description=f"Errors, if there are several: the first {MOST_FAULTS}.",
    )
    more_errors: int = Field(default=0, description="Number of errors beyond those in `errors`.")


class Problem(HTTPException):
    """An error of the HTTP edge.

    Args:
        status: HTTP status.
        code: stable identifier in snake case.
        detail: the cause, in one sentence.
        field: dotted path of the invalid value.
        remedy: what the user can do about it.
        headers: headers of the response, such as ``Retry-After``.
        errors: every error, if there are several.
        extra: further members of the document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Fault] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.code = code
        self.field = field
        self.remedy = remedy
        self.errors = list(errors)
        self.extra = dict(extra or {})


def problem_response(request: Request, problem: Problem) -> JSONResponse:
    """``problem`` as the response to ``request``."""
    document = ProblemDocument(
        type=f"urn:qpruner:problem:{problem.code}",
        title=problem.code.replace("_", " ").capitalize(),
        status=problem.status_code,
        detail=_cut(problem.detail, _LONGEST_DETAIL),
        code=problem.code,
        field=None if problem.field is None else _cut(problem.field, _LONGEST_FIELD),
        remedy=_cut(problem.remedy, _LONGEST_DETAIL),
        instance=_cut(request.url.path, _LONGEST_DETAIL),
        request_id=getattr(request.state, "request_id", ""),
        errors=problem.errors[:MOST_FAULTS],
        more_errors=max(0, len(problem.errors) - MOST_FAULTS),
    )
    document = document.model_copy(update=problem.extra)
    body = document.model_dump(mode="json")
    return JSONResponse(body, problem.status_code, headers=problem.headers, media_type=MEDIA_TYPE)


def from_core_error(error: QPrunerError) -> Problem:
    """The problem of an error that the core raised."""
    headers, extra = {}, {}
    match error:
        case DatasetTooLargeError():
            status = 413
        case UserError():
            status = 422
        case HubUnavailableError():
            status, headers = 503, {"Retry-After": "30"}
        case DiskFullError():
            status = 507
        case _:
            status = 500
    if isinstance(error, BudgetInfeasibleError):
        extra = {"smallest_feasible_bytes": error.smallest_feasible_bytes}
    several = (error, *error.others) if error.others else ()
    errors = [Fault(field=one.field, detail=f"{one.message} {one.remedy}".strip()) for one in several]
    return Problem(
        status, error.code, error.message, field=error.field, remedy=error.remedy, headers=headers, errors=errors,
        extra=extra,
    )  # fmt: skip


def database_problem() -> Problem:
    """The database is unreachable."""
    return Problem(
        503,
        "database_unavailable",
        "The database is unreachable.",
        remedy="This request changed nothing; retry shortly.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


def internal_problem() -> Problem:
    """An internal error; details stay in the log."""
    return Problem(
        500, "internal", "Internal error.", remedy="Retry; if it persists, give the operator the request id."
    )


def _from_http_exception(request: Request, error: StarletteHTTPException) -> Problem:
    if isinstance(error, Problem):
        return error
    json = "json" in request.headers.get("content-type", "")
    if error.status_code == 400 and json:  # FastAPI cannot read the body: too deep, not UTF-8, too many digits
        return _invalid_json("The body is not valid JSON.")
    phrase = HTTPStatus(error.status_code).phrase
    code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(
        error.status_code, phrase.lower().replace(" ", "_").replace("-", "_")
    )
    remedy = "See /docs for the available requests." if error.status_code in (404, 405) else ""
    return Problem(error.status_code, code, f"{error.detail}.", remedy=remedy, headers=error.headers)


def _invalid_json(detail: str) -> Problem:
    return Problem(400, "invalid_json", detail, remedy="Send a JSON object in UTF-8.")


def _from_validation_error(request: Request, error: RequestValidationError) -> Problem:
    faults = list(error.errors())
    first = faults[0]
    if first["type"] == "json_invalid":
        return _invalid_json(f"The body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}.")
    part = first["loc"][0]
    kind = request.headers.get("content-type", "")
    if first["loc"] == ("body",) and first["type"] != "missing" and "json" not in kind:
        detail = f"The body is {kind or 'of no type'}, not JSON."
        return Problem(415, "unsupported_media_type", detail, remedy="Send Content-Type: application/json.")
    errors = [
        Fault(field=_dotted(fault["loc"]), detail=_cut(_sentence(fault), _LONGEST_DETAIL))
        for fault in faults[:MOST_FAULTS]
    ]
    given = isinstance(error.body, dict) and "memory_budget" in error.body
    budget = first["loc"] == ("body", "memory_budget") and given
    code = "budget_invalid" if budget else "invalid_config" if part == "body" else "invalid_request"
    detail, _, remedy = errors[0].detail.partition(" Give ")
    return Problem(
        422,
        code,
        detail,
        field=errors[0].field,
        remedy=f"Give {remedy}" if remedy else "See /guide or /docs for the settings and their ranges.",
        errors=errors,
        extra={"more_errors": len(faults) - len(errors)},
    )


def _dotted(location: Sequence[str | int]) -> str | None:
    return _cut(".".join(_cut(str(part), _LONGEST_FIELD) for part in location[1:]), _LONGEST_FIELD) or None


def _cut(text: str, longest: int) -> str:
    """``text`` without its middle if it is longer: values of a request are not repeated at full length."""
    return text if len(text) <= longest else f"{text[: longest - 20]}…{text[-19:]}"


def _sentence(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "missing":
        return "Missing." if len(fault["loc"]) > 1 else "The body is missing."
    if fault["type"] == "extra_forbidden":
        return unknown_setting(_dotted(fault["loc"]) or "", CompressionConfig)
    return plain_fault(fault)


def _from_database_error(error: Exception) -> Problem:
    if isinstance(error, DataError):
        return Problem(
            422, "invalid_request", "A value cannot be stored in the database.", remedy="Remove control characters."
        )
    lost = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError)
    unmigrated = getattr(getattr(error, "orig", None), "sqlstate", None) in _NO_SUCH_TABLE_OR_COLUMN
    if lost or unmigrated or (isinstance(error, DBAPIError) and error.connection_invalidated):
        logger.warning("database: %s", getattr(error, "orig", None) or error)
        full = "disk is full" in str(error) or "No space left" in str(error)
        return from_core_error(DiskFullError("The database's disk is full.")) if full else database_problem()
    logger.error("unexpected database error", exc_info=error)
    return internal_problem()


def _from_store_error(error: StoreUnavailableError) -> Problem:
    logger.warning("store: %s", error)
    return Problem(
        503,
        "store_unavailable",
        "The store of artifacts is unreachable.",
        remedy="Retry shortly.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


def _to_problem(request: Request, error: Exception) -> Problem:
    match error:
        case StarletteHTTPException():
            return _from_http_exception(request, error)
        case RequestValidationError():
            return _from_validation_error(request, error)
        case StoreUnavailableError():
            return _from_store_error(error)
        case QPrunerError():
            return from_core_error(error)
        case _:
            return _from_database_error(error)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    return problem_response(request, _to_problem(request, error))


def install_problem_handlers(app: FastAPI) -> None:
    """Respond to every known kind of error of ``app`` with a problem document.

    :class:`app.request_context.RequestContext` handles all others.
    """
    kinds = (
        StarletteHTTPException, RequestValidationError, QPrunerError, StoreUnavailableError,
        DBAPIError, PoolTimeoutError,
    )  # fmt: skip
    for kind in kinds:
        app.add_exception_handler(kind, _answer)


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of an endpoint with these problems, each written ``"404 job_not_found"``."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status, _, code in sorted(code.partition(" ") for code in codes):
        known = responses.setdefault(
            int(status), {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": PROBLEM_SCHEMA}}}}
        )
        known["description"] += f", `{code}`" if known["description"] else f"`{code}`"
    return responses


PROBLEM_SCHEMA = "#/components/schemas/ProblemDocument"
