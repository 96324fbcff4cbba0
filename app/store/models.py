"""Table of the one store that this database belongs to."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, UtcDateTime


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
