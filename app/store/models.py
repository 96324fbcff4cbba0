"""Tables of the one store that this database belongs to, and of files to be deleted from it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, UtcDateTime
from app.jobs.models import BigId


class KnownStore(Base):
    """The store whose marker has this ``id``; at most one row, in ``slot`` 1.

    ``marked`` is false from the choice of the id until the marker is in the store.
    """

    __tablename__ = "known_store"
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=1)
    id: Mapped[str] = mapped_column(String(40))
    location: Mapped[str] = mapped_column(String(1024))
    marked: Mapped[bool]
    adopted_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ObsoleteFiles(Base):
    """Objects below ``prefix``, to be deleted by any process from ``due_at`` on (:mod:`app.storage.obsolete`)."""

    __tablename__ = "obsolete_files"
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    prefix: Mapped[str] = mapped_column(String(1024))
    due_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)

    def __str__(self) -> str:
        return self.prefix
