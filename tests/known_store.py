"""A store that a database of its own knows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from sqlalchemy import Engine

from app.database import create_database_engine
from app.migrate import upgrade
from app.settings import Settings
from app.store import ArtifactStore, open_store

_MIGRATED: list[Path] = []


def open_known_store(settings: Settings) -> ArtifactStore:
    """The store of ``settings``, with a SQLite database in their data folder unless they name another."""
    return open_store(settings, migrated_engine(settings))


def migrated_engine(settings: Settings) -> Engine:
    """An engine on the migrated database of ``settings``; a copy, as migrating takes longer than a test of a store."""
    path = settings.data_dir / "qpruner.db"
    if settings.database_url is None and not path.exists():
        if not _MIGRATED:
            made = Path(tempfile.mkdtemp(prefix="qpruner-migrated-")) / "qpruner.db"
            upgrade(f"sqlite:///{made}")
            _MIGRATED.append(made)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_MIGRATED[0], path)
    return create_database_engine(settings.resolved_database_url)
