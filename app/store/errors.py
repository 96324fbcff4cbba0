"""Errors of an unavailable store."""

from __future__ import annotations

from qpruner_core.errors import QPrunerError


class StoreUnavailableError(QPrunerError):
    """The store is unreachable, rejects access, or lost its folder or bucket; retrying later may help."""

    code = "store_unavailable"
    exit_code = 3


class StoreAwayError(StoreUnavailableError):
    """The store is not the one that the database knows: its disk is not mounted, or another one is configured."""

    code = "store_away"


class InvalidStoreUrlError(QPrunerError):
    """``store_url`` is not a valid store."""

    code = "invalid_store_url"
    exit_code = 2
