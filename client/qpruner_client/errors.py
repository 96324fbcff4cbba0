"""Errors of the client: types with a stable ``code``, the invalid ``field`` and the ``remedy``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import ValidationError

from qpruner_client.models import JobErrorView, ModelView, ProblemDocument


class ClientError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: stable identifier of the kind of error, in snake case.
        message: the cause, in one sentence.
        field: dotted path of the invalid setting (``"prune.ratio"``), or ``None``.
        remedy: what the user can do about it; may be empty.
    """

    code = "client_error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.message = message
        self.field = field
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.message}{' ' if self.remedy else ''}{self.remedy} ({self.code})"


class ConnectionFailedError(ClientError):
    """The service is unreachable, or the connection broke repeatedly."""

    code = "connection_failed"


class UnexpectedResponseError(ClientError):
    """The response does not match this API; the address may belong to another server."""

    code = "unexpected_response"


class WaitTimeoutError(ClientError, TimeoutError):
    """The job has not ended within the caller's timeout; it continues."""

    code = "wait_timeout"


class DownloadError(ClientError):
    """A file could not be downloaded, or differs from the one listed by the service."""

    code = "download_failed"


class UploadError(ClientError):
    """Files could not be uploaded, or are not files of a model."""

    code = "upload_failed"


class UploadFailedError(ClientError):
    """The service rejected an upload. ``upload_id`` names it; ``user``: whether its files are at fault."""

    def __init__(self, view: ModelView) -> None:
        error = view.error or JobErrorView(code="upload_failed", message="The upload failed.", user=False)
        super().__init__(error.message, code=error.code, field=error.field, remedy=error.remedy)
        self.upload_id = view.id
        self.user = error.user


class SettingsError(ClientError):
    """An argument or a profile of this package is invalid."""

    code = "invalid_settings"


class ApiError(ClientError):
    """The service rejected a request or failed.

    Attributes:
        status: HTTP status.
        request_id: identifies the request in the log of the service.
        problem: the whole problem document (RFC 9457), with every error in ``errors``.
    """

    def __init__(self, status: int, problem: ProblemDocument) -> None:
        super().__init__(problem.detail, code=problem.code, field=problem.field, remedy=problem.remedy)
        self.status = status
        self.request_id = problem.request_id
        self.problem = problem


class InvalidRequestError(ApiError):
    """The request is invalid: statuses 400, 413, 415 and 422."""


class BudgetInfeasibleError(InvalidRequestError):
    """No allowed pruning and precision meets the budget; ``smallest_feasible_bytes`` is the smallest feasible one."""

    @property
    def smallest_feasible_bytes(self) -> int | None:
        """The smallest feasible budget with the other settings unchanged."""
        return (self.problem.model_extra or {}).get("smallest_feasible_bytes")


class AuthenticationError(ApiError):
    """The API key is missing, mistyped, expired or revoked."""


class PermissionDeniedError(ApiError):
    """The API key lacks a scope."""


class NotFoundError(ApiError):
    """It does not exist, or belongs to another tenant."""


class ConflictError(ApiError):
    """The state of the job or dataset does not allow the request."""


class TooManyRequestsError(ApiError):
    """A limit is reached; the client has already waited and retried."""


class ServiceUnavailableError(ApiError):
    """A part of the service is unavailable; the client has already waited and retried."""


class ServiceFaultError(ApiError):
    """The service failed; ``request_id`` helps its operator."""


class JobEndedError(ClientError):
    """A job did not succeed. ``job_id`` names it."""

    def __init__(self, job_id: str, message: str, **named: Any) -> None:
        super().__init__(message, **named)
        self.job_id = job_id


class JobFailedError(JobEndedError):
    """The job failed. ``user``: whether the request is at fault and must be changed; otherwise a retry may help."""

    def __init__(self, job_id: str, error: JobErrorView | None) -> None:
        error = error or JobErrorView(code="job_failed", message=f"The job {job_id} failed.", user=False)
        super().__init__(job_id, error.message, code=error.code, field=error.field, remedy=error.remedy)
        self.user = error.user


class JobCancelledError(JobEndedError):
    """The job was cancelled."""

    code = "job_cancelled"


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequestError, 401: AuthenticationError, 403: PermissionDeniedError, 404: NotFoundError,
    409: ConflictError, 413: InvalidRequestError, 415: InvalidRequestError, 422: InvalidRequestError,
    429: TooManyRequestsError, 503: ServiceUnavailableError,
}  # fmt: skip
_BY_CODE: Mapping[str, type[ApiError]] = {"budget_infeasible": BudgetInfeasibleError}


def error_of(response: httpx.Response) -> ClientError:
    """The error of a response with a status of 400 or more; its body has been read."""
    try:
        problem = ProblemDocument.model_validate_json(response.content)
    except ValidationError:
        return UnexpectedResponseError(
            f"The server responded to {response.request.method} {response.request.url} with status "
            f"{response.status_code} and without a problem document.",
            remedy="Check the address of the server, and proxies in front of it.",
        )
    status = response.status_code
    kind = _BY_CODE.get(problem.code) or _BY_STATUS.get(status) or (ServiceFaultError if status >= 500 else ApiError)
    return kind(status, problem)
