"""Files in the store that no row names any more.

The transaction that deletes the rows records the files; they are deleted after its commit. Otherwise a slow store would
keep the transaction open, and on SQLite every writer waiting. Files that the store does not delete then are deleted
later: none are forgotten, and no row names files that are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.database import read_only, utc_now
from app.storage.one_by_one import one_by_one
from app.store import ArtifactStore
from app.store.models import ObsoleteFiles

_LOG = logging.getLogger(__name__)
_RECORDED = "obsolete_files"
_FIRST = timedelta(minutes=1)
"""How long the process that recorded files has to delete them before others do."""
_AGAIN = timedelta(minutes=10)
_BATCH = 100


def record_obsolete(session: Session, prefix: str) -> None:
    """Have every object below ``prefix`` deleted after the commit; no later object may have that prefix.

    ``session`` must be one of :func:`deleting`.
    """
    row = ObsoleteFiles(prefix=prefix, due_at=utc_now() + _FIRST)
    session.add(row)
    session.info[_RECORDED].append(row)


@contextmanager
def deleting(sessions: sessionmaker[Session], store: ArtifactStore) -> Iterator[Session]:
    """A transaction, after whose commit the files of :func:`record_obsolete` are deleted.

    What the store does not delete then, :func:`delete_obsolete` deletes later.
    """
    recorded: list[ObsoleteFiles] = []
    with sessions.begin() as session:
        session.info[_RECORDED] = recorded
        yield session
    for row in recorded:
        try:
            _delete(sessions, store, row)
        except Exception as error:  # noqa: BLE001 - the rows are gone, and their deletion has succeeded
            _LOG.warning("%s is deleted from the store later: %s", row.prefix, error)


def delete_obsolete(
    sessions: sessionmaker[Session], store: ArtifactStore, is_stopping: Callable[[], bool] = lambda: False
) -> int:
    """Delete due files; returns the number of prefixes. Several processes may do so.

    Raises:
        StoreUnavailableError, SQLAlchemyError: store or database are unavailable.
    """
    done = 0
    while not is_stopping() and (rows := _due(sessions)):
        done += one_by_one(rows, lambda row: not is_stopping() and _take(sessions, store, row), sessions, store)
    return done


def _due(sessions: sessionmaker[Session]) -> Sequence[ObsoleteFiles]:
    query = select(ObsoleteFiles).where(ObsoleteFiles.due_at <= utc_now()).order_by(ObsoleteFiles.due_at).limit(_BATCH)
    with read_only(sessions)() as session:
        return session.scalars(query).all()


def _take(sessions: sessionmaker[Session], store: ArtifactStore, row: ObsoleteFiles) -> bool:
    """Delete the files of ``row`` unless another process does. If that fails, they are due again later."""
    ours = update(ObsoleteFiles).where(ObsoleteFiles.id == row.id, ObsoleteFiles.due_at == row.due_at)
    with sessions.begin() as session:
        if not session.execute(ours.values(due_at=utc_now() + _AGAIN)).rowcount:  # type: ignore[attr-defined]
            return False
    _delete(sessions, store, row)
    return True


def _delete(sessions: sessionmaker[Session], store: ArtifactStore, row: ObsoleteFiles) -> None:
    store.delete_prefix(row.prefix)
    with sessions.begin() as session:
        session.execute(delete(ObsoleteFiles).where(ObsoleteFiles.id == row.id))
