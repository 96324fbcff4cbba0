"""Identity of a store: its marker has the id that the database knows.

A disk that is not mounted leaves an empty folder in its place, and a setting may name another bucket. Neither is an
empty store of ours: files known to the database would seem lost, and new files would end up in the wrong place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import utc_now
from app.datasets.models import Dataset
from app.ids import new_id
from app.jobs.models import Artifact, StageResult
from app.store.errors import StoreAwayError
from app.store.models import KnownStore
from app.uploads.models import Upload, UploadFile

MARKER = ".qpruner-store.json"
"""Key of the marker, a JSON object with the ``id``."""

_FRESH_SECONDS = 30.0  # how long a process may overlook that an operator has adopted another store
_SAMPLE = 10
_QUERY = "SELECT id, location, marked FROM known_store WHERE slot = 1"
_ADOPT = "Mount or restore the store that QPRUNER_STORE_URL named before; or run `qpruner store adopt` to replace it."


class MarkedPlace(Protocol):
    """Identification methods of a store. Every method raises :class:`StoreUnavailableError`."""

    def read_marker(self) -> str | None:
        """The id in the marker; ``None`` if there is no marker, ``""`` if it is unreadable."""

    def write_marker(self, store_id: str) -> None:
        """Write the marker; creates the store's folder if there is none."""

    def holds(self, key: str) -> bool:
        """Whether there is an object at ``key``, whatever the marker."""


@dataclass(frozen=True)
class Known:
    """The database's record of its store."""

    id: str
    location: str
    marked: bool


class StoreIdentity:
    """The database's side of the identification. Thread-safe."""

    def __init__(self, engine: Engine, location: str) -> None:
        self.location = location
        self._engine = engine
        self._known: str | None = None
        self._known_until = self._seen_at = float("-inf")

    def require(self, place: MarkedPlace, *, max_age: float = 0.0) -> None:
        """Return if ``place`` is ours. On the first contact of an empty database with an empty store, both get an id.

        With ``max_age``, a check that is at most so many seconds old counts.

        Raises:
            StoreAwayError: it has no marker, or another's.
            StoreUnavailableError: it is unreachable.
            SQLAlchemyError: the id is not known yet, and the database is unreachable.
        """
        if time.monotonic() - self._seen_at < max_age:
            return
        found = place.read_marker()
        if self._known is None or time.monotonic() >= self._known_until or found != self._known:
            self._known = self._refreshed(place, found)
            self._known_until = time.monotonic() + _FRESH_SECONDS
            found = place.read_marker() if found is None else found
        if found != self._known:
            raise _away(place, found)
        self._seen_at = time.monotonic()

    def known(self) -> Known | None:
        """The database's present record; takes no lock, so that it can be read within another transaction."""
        with self._engine.connect() as connection:
            cursor = connection.connection.cursor()  # without the BEGIN IMMEDIATE of SQLite's transactions
            try:
                cursor.execute(_QUERY)
                row = cursor.fetchone()
            except self._engine.dialect.loaded_dbapi.Error as error:
                raise OperationalError(_QUERY, {}, error) from error
            finally:
                cursor.close()
        return None if row is None else Known(row[0], row[1], bool(row[2]))

    def recorded_keys(self) -> list[str]:
        """Some of the newest keys that are in the store according to the database."""
        with Session(self._engine.execution_options(read_only=True)) as session:
            return list(_recorded(session))

    def adopt(self, place: MarkedPlace, note: Callable[[Session, str], None]) -> str:
        """Adopt ``place`` from now on, whatever it was; returns the id, which is that of its marker if it has one.

        ``note`` is called with it in the transaction that changes the database.
        """
        found = place.read_marker()
        store_id = found or new_id("store")
        with Session(self._engine) as session, session.begin():
            session.merge(KnownStore(slot=1, id=store_id, location=self.location, marked=True, adopted_at=utc_now()))
            note(session, store_id)
            if not found:
                place.write_marker(store_id)  # if it fails, the database still knows the previous store
        self._known, self._known_until = store_id, time.monotonic() + _FRESH_SECONDS
        return store_id

    def _refreshed(self, place: MarkedPlace, found: str | None) -> str:
        """The id in the database; created on the first contact, or if an older release had no ids."""
        try:
            known = self.known()
        except SQLAlchemyError:
            if self._known is None:
                raise
            return self._known
        if known is not None and known.marked:
            return known.id
        self._require_plausible(place, known, found)
        if known is None:
            known = self._choose(found or new_id("store"))
        if found is None:
            place.write_marker(known.id)
        if found in (None, known.id):
            self._confirm(known.id)
        return known.id

    def _require_plausible(self, place: MarkedPlace, known: Known | None, found: str | None) -> None:
        recorded = self.recorded_keys()
        if recorded and not any(place.holds(key) for key in recorded):
            raise _away(place, found, "contains none of the files that the database names")
        if known is None and found is not None and not recorded:
            raise _away(place, found)

    def _choose(self, store_id: str) -> Known:
        row = KnownStore(slot=1, id=store_id, location=self.location, marked=False, adopted_at=utc_now())
        try:
            with Session(self._engine) as session, session.begin():
                session.add(row)
        except IntegrityError:  # another process was first
            chosen = self.known()
            if chosen is None:
                raise
            return chosen
        return Known(store_id, self.location, False)

    def _confirm(self, store_id: str) -> None:
        with Session(self._engine) as session, session.begin():
            row = session.get(KnownStore, 1)
            if row is not None and row.id == store_id:
                row.marked = True


def marker_content(store_id: str) -> bytes:
    """The bytes of a marker."""
    about = "This folder or prefix is a store of QPruner. Without this file it is not used."
    return json.dumps({"id": store_id, "about": about}, indent=1).encode() + b"\n"


def parse_marker(content: bytes) -> str:
    """The id in a marker; ``""`` if it has none."""
    try:
        return str(json.loads(content)["id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _recorded(session: Session) -> Iterator[str]:
    yield from session.scalars(select(Dataset.key).order_by(Dataset.id.desc()).limit(_SAMPLE))
    yield from session.scalars(select(Artifact.key).order_by(Artifact.job_id.desc()).limit(_SAMPLE))
    whole = select(UploadFile.key).join(Upload, Upload.id == UploadFile.upload_id).where(Upload.status == "ready")
    yield from session.scalars(whole.order_by(Upload.id.desc()).limit(_SAMPLE))
    stored = select(StageResult.store_prefix).where(StageResult.store_prefix != "")
    for prefix in session.scalars(stored.order_by(StageResult.job_id.desc()).limit(_SAMPLE)):
        yield f"{prefix}stage.json"


def _away(place: MarkedPlace, found: str | None, why: str = "") -> StoreAwayError:
    why = why or (f"has no marker {MARKER}" if found is None else "has the marker of another installation's store")
    return StoreAwayError(f"The store {place} {why}.", remedy=_ADOPT)
