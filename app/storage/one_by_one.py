"""Loops over many tenants' data, in which one item that fails does not end the others' turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.database import read_only
from app.store import ArtifactStore, StoreUnavailableError

_LOG = logging.getLogger(__name__)
_Item = TypeVar("_Item")


def one_by_one(
    items: Iterable[_Item], handle: Callable[[_Item], bool], sessions: sessionmaker[Session], store: ArtifactStore
) -> int:
    """Number of ``items`` for which ``handle`` returned true. A failed item is logged and left to the next pass.

    Raises:
        StoreUnavailableError, SQLAlchemyError: store or database are unavailable, so that every item would fail.
    """
    done = 0
    for item in items:
        try:
            done += handle(item)
        except (SQLAlchemyError, StoreUnavailableError) as error:
            _LOG.warning("%s is left to the next pass: %s", item, error)
            store.check()
            with read_only(sessions)() as session:
                session.execute(select(1))
        except Exception:  # noqa: BLE001 - the other items are not at fault
            _LOG.exception("%s is left to the next pass", item)
    return done
