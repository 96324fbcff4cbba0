"""Errors of an upload."""

from __future__ import annotations

from qpruner_core.errors import QPrunerError, UserError


class UploadCorruptError(UserError):
    """The received file differs from the announced one: another size, or another SHA-256."""

    code = "upload_corrupt"


class CheckFailedError(QPrunerError):
    """The process that inspects an upload repeatedly died, or exceeded its time or memory."""

    code = "check_failed"
