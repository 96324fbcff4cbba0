"""Errors of uploads."""

from __future__ import annotations

from qpruner_core.errors import QPrunerError, UserError


class UploadCorruptError(UserError):
    """The received files differ from the announced ones in size or SHA-256."""

    code = "upload_corrupt"


class CheckFailedError(QPrunerError):
    """The process that looks at an upload died, or took too long or too much memory, again and again."""

    code = "check_failed"
