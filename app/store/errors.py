"""What a store raises when it does not answer."""

from __future__ import annotations

from qpruner_core.errors import QPrunerError


class StoreUnavailableError(QPrunerError):
    """The store does not answer, refuses us or lost its folder or bucket; trying again later may help."""

    code = "store_unavailable"
    exit_code = 3


class StoreAwayError(StoreUnavailableError):
    """What is there is not the store that the database knows: its disk is not mounted, or another one is named."""

    code = "store_away"


class InvalidStoreUrlError(QPrunerError):
    """``store_url`` names no store that exists."""

    code = "invalid_store_url"
    exit_code = 2
