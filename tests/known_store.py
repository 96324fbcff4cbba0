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
    """An engine on the migrated database of ``settings``."""
    migrate(settings)
    return create_database_engine(settings.resolved_database_url)


def migrate(settings: Settings) -> None:
    """Migrate the database of ``settings``; a new one in their data folder is a copy, which is much faster."""
    path = settings.data_dir / "qpruner.db"
    if settings.database_url is not None:
        upgrade(settings.resolved_database_url)
    elif not path.exists():
        if not _MIGRATED:
            made = Path(tempfile.mkdtemp(prefix="qpruner-migrated-")) / "qpruner.db"
            upgrade(f"sqlite:///{made}")
            _MIGRATED.append(made)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_MIGRATED[0], path)
