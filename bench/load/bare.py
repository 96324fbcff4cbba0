"""The least that takes a job: a FastAPI endpoint that validates a small body and inserts one row.

python -m bench.load.bare DATABASE_URL PORT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel
from sqlalchemy import JSON, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app.database import UtcDateTime, create_database_engine, create_session_factory, utc_now
from app.ids import new_id


class _Base(DeclarativeBase):
    pass


class BareJob(_Base):
    """A row with an id, a time and the body."""

    __tablename__ = "bare_jobs"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Body(BaseModel):
    """What a request must say."""

    model: str
    dataset: str
    memory_budget: int | str
    sequence_length: int = 256
    seed: int = 0
    labels: dict[str, str] = {}


app = FastAPI()


def _session(request: Request) -> Iterator[Session]:
    with request.app.state.sessions() as opened:
        yield opened
        opened.commit()


@app.post("/jobs", status_code=202)
def submit(body: Body, session: Annotated[Session, Depends(_session, scope="function")]) -> dict[str, Any]:
    """Insert one row."""
    job = BareJob(id=new_id("job"), body=body.model_dump(), created_at=utc_now())
    session.add(job)
    session.flush()
    return {"id": job.id, **job.body}


def main(database_url: str, port: int) -> None:
    """Serve on ``database_url``, to which a table is added."""
    engine = create_database_engine(database_url)
    _Base.metadata.create_all(engine)
    app.state.sessions = create_session_factory(engine)
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
