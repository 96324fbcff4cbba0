"""When a request is repeated, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

_REFUSED = (429, 503)  # the service did nothing
_UNKNOWN = (502, 504)  # a proxy lost the response: only repeatable requests are sent again


@dataclass(frozen=True)
class Retries:
    """Retry policy of a client.

    Args:
        attempts: of one request, including the first.
        first_delay: seconds before the second attempt; each further delay is twice as long, minus a random part of up
            to a half, so that many clients do not return at once.
        longest_delay: seconds.
        patience: seconds that all delays of a request may take together. ``Retry-After`` is honoured within it.
    """

    attempts: int = 6
    first_delay: float = 0.5
    longest_delay: float = 30.0
    patience: float = 120.0

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after the failed ``attempt`` (from 1)."""
        backed_off = min(self.longest_delay, self.first_delay * 2.0 ** min(attempt - 1, 30))
        spread = backed_off * random.uniform(0.5, 1.0)  # noqa: S311 - nothing is secret about it
        return max(spread, retry_after or 0.0)


class Attempts:
    """The attempts of one request. ``perhaps_done``: the service may have done it, for a response was lost."""

    def __init__(self, retries: Retries, *, repeatable: bool) -> None:
        self.perhaps_done = False
        self._retries = retries
        self._repeatable = repeatable
        self._made = 0
        self._waited = 0.0

    def after_response(self, response: httpx.Response) -> float | None:
        """Seconds until the request is repeated; ``None``: the response is final."""
        status = response.status_code
        self.perhaps_done |= status in _UNKNOWN
        if status in _REFUSED or (status in _UNKNOWN and self._repeatable):
            return self._next(retry_after(response))
        return None

    def after_error(self, error: httpx.TransportError) -> float | None:
        """Seconds until the request is repeated; ``None``: the error is final."""
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        self.perhaps_done |= not unsent
        return self._next(None) if unsent or self._repeatable else None

    def _next(self, asked: float | None) -> float | None:
        self._made += 1
        delay = self._retries.delay(self._made, asked)
        if self._made >= self._retries.attempts or self._waited + delay > self._retries.patience:
            return None
        self._waited += delay
        return delay


def retry_after(response: httpx.Response) -> float | None:
    """Seconds in ``Retry-After``, as a number or a date (RFC 9110); ``None`` without a valid one."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
