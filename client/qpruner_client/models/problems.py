"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from pydantic import Field

from qpruner_client.models.base import Model


class Fault(Model):
    """One of several faults of a request."""

    field: str | None
    """Dotted path of the value at fault."""

    detail: str


class ProblemDocument(Model):
    """What every error answers with (RFC 9457). `code` is stable; `detail` and `remedy` are for people."""

    type: str
    """A URN that ends in the code."""

    title: str
    status: int
    detail: str
    code: str
    """Stable identifier of the kind of error."""

    field: str | None = None
    """Dotted path of the value at fault."""

    remedy: str = ""
    """What to do about it."""

    instance: str
    """Path of the request."""

    request_id: str
    """The same as the header X-Request-Id; names the request in the log."""

    errors: list[Fault] = Field(default_factory=list)
    """Every fault found, where there are several."""
