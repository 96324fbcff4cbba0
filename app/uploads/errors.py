"""What an upload fails with."""

from __future__ import annotations

from qpruner_core.errors import QPrunerError, UserError


class UploadCorruptError(UserError):
    """What came is not what was announced: another size, or another SHA-256."""

    code = "upload_corrupt"


class CheckFailedError(QPrunerError):
    """The process that looks at an upload died, or took too long or too much memory, again and again."""

    code = "check_failed"
