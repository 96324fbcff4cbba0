"""Tables of uploads and their files."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, UtcDateTime

UploadStatus = Literal["uploading", "checking", "ready", "failed"]


class Upload(Base):
    """A model (``md_…``), or a dataset (``ds_…``) until it is ready and has a row among the datasets.

    ``bytes``: of all files together. ``part_bytes``: of each part but the last of a file. ``facts``: facts for planning
    about a model that is ready, a :class:`qpruner_core.models.facts.ModelFacts`. ``expires_at``: deletion time of an
    upload that is not ready. ``used_at``: last use by a job; before any, the time when it became ready, was completed
    (which is the order of checks) or began. A worker checks it while ``lease_token`` is its own and
    ``lease_expires_at`` lies ahead.
    """

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_tenant", "tenant", "id"), Index("ix_uploads_status", "status"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    status: Mapped[UploadStatus] = mapped_column(String(16))
    bytes: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int] = mapped_column(BigInteger)
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None] = mapped_column(String(64))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class UploadFile(Base):
    """A file of an upload, at ``key`` once it is complete. ``token``: the store's name of its unfinished parts."""

    __tablename__ = "upload_files"

    upload_id: Mapped[str] = mapped_column(
        String(40), ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True
    )  # fmt: skip
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(512), unique=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    token: Mapped[str] = mapped_column(String(1024))
