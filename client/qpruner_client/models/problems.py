"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from pydantic import Field

from qpruner_client.models.base import Model


class Fault(Model):
    """One of several errors in a request."""

    field: str | None
    """Dotted path of the invalid value."""

    detail: str
    """The error, in one sentence."""


class ProblemDocument(Model):
    """The body of every error (RFC 9457). `code` is stable; `detail` and `remedy` are for people."""

    type: str
    """A URN that ends in the code."""

    title: str
    """The code in words."""

    status: int
    """HTTP status."""

    detail: str
    """The error, in one sentence."""

    code: str
    """Stable identifier of the kind of error."""

    field: str | None = None
    """Dotted path of the invalid value."""

    remedy: str = ""
    """Suggested remedy."""

    instance: str
    """Path of the request."""

    request_id: str
    """The value of the header X-Request-Id; identifies the request in the log."""

    errors: list[Fault] = Field(default_factory=list)
    """Errors, if there are several: the first 20."""

    more_errors: int = 0
    """Number of errors beyond those in `errors`."""
