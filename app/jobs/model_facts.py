"""Facts about models in the database: shared by all processes, and kept over restarts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from app.database import read_only, utc_now
from app.jobs.models import KnownModel
from app.uploads.models import Upload
from qpruner_core.models.facts import ModelFacts

_KEPT_DAYS = 30


class StoredFacts:
    """A :class:`qpruner_core.known_models.FactsStore` in the tables ``known_models`` and ``uploads``.

    ``tenant``: returns that of the running request, whose uploads are found.
    """

    def __init__(self, sessions: sessionmaker[Session], tenant: Callable[[], str]) -> None:
        self._sessions = sessions
        self._tenant = tenant
        self._reading = read_only(sessions)

    def find(self, identity: str) -> ModelFacts | None:
        """Stored facts of the model of that identity; ``None`` if there are none, or another release stored them."""
        with self._reading() as session:
            row = session.get(KnownModel, identity)
        try:
            return None if row is None else ModelFacts.model_validate(row.facts)
        except ValidationError:
            return None

    def keep(self, identity: str, facts: ModelFacts) -> None:
        """Store the facts of a model for a month; then it is inspected again."""
        now = utc_now()
        row = KnownModel(identity=identity, facts=facts.model_dump(mode="json"), created_at=now)
        try:
            with self._sessions.begin() as session:
                session.execute(delete(KnownModel).where(KnownModel.created_at < now - timedelta(days=_KEPT_DAYS)))
                session.merge(row)
        except IntegrityError:  # another process was first, with the same facts
            return

    def of_upload(self, model_id: str) -> ModelFacts | None:
        """The facts that a worker took of an uploaded model of the tenant; ``None`` if it has no such model."""
        mine = (Upload.id == model_id, Upload.tenant == self._tenant(), Upload.status == "ready")
        with self._reading() as session:
            facts = session.scalar(select(Upload.facts).where(*mine))
        return None if facts is None else ModelFacts.model_validate(facts)
