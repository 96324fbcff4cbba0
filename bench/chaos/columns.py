"""The two columns of parts, with everything in them that can be brought down."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.database import create_database_engine, create_read_session_factory
from app.jobs.models import Job
from bench.chaos import child
from bench.chaos.targets import Children, Folder, KeptServer, Server, Target, Workers
from bench.load.parts import Served, served
from qpruner_core.events import STAGES
from tests.postgres import run_postgres
from tests.s3 import run_s3
from tests.valkey import run_valkey

COLUMNS = ("embedded", "scale")
LEASE_SECONDS = 5.0
_STAGE_SECONDS = 0.25
_SETTINGS: dict[str, object] = {
    "lease_seconds": LEASE_SECONDS, "resend_seconds": 2.0, "poll_seconds": 0.2, "max_attempts": 1000,
    "worker_threads": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A running service with its workers."""

    name: str
    service: Served
    engine: Engine
    targets: dict[str, Target]

    @property
    def reading(self) -> sessionmaker[Session]:
        """Sessions that keep nobody waiting."""
        return create_read_session_factory(self.engine)


@contextmanager
def running(name: str, seed: int, workers: int) -> Iterator[Column]:
    """The column ``name``; every process of it is gone when the block ends."""
    with ExitStack() as stack:
        if name == "embedded":
            service = stack.enter_context(served(None, **_SETTINGS))
        else:
            service = stack.enter_context(_at_scale(stack))
        engine = create_database_engine(service.settings.resolved_database_url)
        stack.callback(engine.dispose)
        shutil.copytree(service.sources / child.REAL, service.sources / child.SCRIPTED)
        api = Server(psutil.Process(service.pid), service.processes, service.folder / "serve.log")
        column = Column(name, service, engine, {"API": api})
        targets = column.targets
        targets["worker"] = _workers(column, seed, workers)
        targets["child"] = Children(service.settings, random.Random(f"{seed} child"))  # noqa: S311
        if name == "embedded":
            targets["broker"] = KeptServer(api, "valkey")
            targets["store's folder"] = Folder(service.settings.data_dir / "store")
        else:
            for kind, program in {"broker": "valkey", "database": "postgres", "store": "radosgw|rclone"}.items():
                targets[kind] = Server(_child_called(program), stack, service.folder / f"{kind}.log")
        yield column


@contextmanager
def _at_scale(stack: ExitStack) -> Iterator[Served]:
    valkey = stack.enter_context(run_valkey())
    s3 = stack.enter_context(run_s3())
    os.environ.update(s3.environment)
    database_url = stack.enter_context(run_postgres())
    parts = {"broker_url": valkey.url, "store_url": f"s3://{s3.create_bucket()}", "s3_endpoint_url": s3.endpoint_url}
    with served(database_url, **_SETTINGS, **parts) as service:
        yield service


def _child_called(programs: str) -> psutil.Process:
    """The process that this one started of a program with one of these names."""
    names = programs.split("|")
    return next(one for one in psutil.Process().children() if any(name in one.name() for name in names))


def _workers(column: Column, seed: int, count: int) -> Workers:
    service = column.service
    directions = service.folder / "directions"
    directions.mkdir()
    for stage in STAGES:
        (directions / f"{stage}.sleep").write_text(str(_STAGE_SECONDS))
    pids = [
        service.start("bench.load.worker", str(directions), str(Path(child.__file__)), name=f"worker{number}")
        for number in range(count)
    ]
    servers = [
        Server(psutil.Process(pid), service.processes, service.folder / f"worker{number}.log")
        for number, pid in enumerate(pids)
    ]
    chance = random.Random(f"{seed} worker")  # noqa: S311 - nothing is secret about it
    return Workers(servers, chance, lambda pid: _working_on(column, pid))


def _working_on(column: Column, pid: int) -> list[str]:
    query = select(Job.id).where(Job.status == "running", Job.lease_owner == f"{socket.gethostname()}:{pid}")
    try:
        with column.reading() as session:
            return list(session.scalars(query))
    except SQLAlchemyError:  # the database is down, too
        return []
