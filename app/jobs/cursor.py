"""Position at the end of a page of jobs, as an opaque string."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime

from app.database import as_utc
from app.ids import is_id
from app.problems import Problem


def encode_cursor(created_at: datetime, job_id: str) -> str:
    """The cursor of the page that starts after this job."""
    return base64.urlsafe_b64encode(json.dumps([created_at.isoformat(), job_id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """The job of ``cursor``. Raises a 422 problem ``invalid_cursor`` for an unknown one."""
    try:
        created_at, job_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None or not is_id(job_id, "job"):
            raise ValueError(cursor)
        moment = as_utc(moment)
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise Problem(
            422,
            "invalid_cursor",
            "The cursor does not come from a page of jobs.",
            field="cursor",
            remedy="Use next_cursor of the previous page, or none for the first page.",
        ) from error
    return moment, job_id
