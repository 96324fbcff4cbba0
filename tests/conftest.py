"""Real databases, a real S3 server and a real full disk for any test that asks for them by name."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.migrate import upgrade
from qpruner_core.program import settle_program
from tests.postgres import EmptiedDatabase, NoPostgresError, find_postgres, fresh_database, run_postgres
from tests.s3 import NoS3Error, S3Server, find_s3, run_s3
from tests.small_disk import NoSmallDiskError, mount_small_disk

settle_program()  # as the programs do, before any test imports torch
gc.disable()  # until all tests are imported: nothing of what that creates is garbage

LONGEST = (
    "tests/worker/test_killed.py", "tests/worker/test_uploaded_models.py", "tests/app/page/test_accessibility.py",
    "tests/app/uploads/test_models.py", "tests/core/pipeline/", "tests/app/test_embedded.py", "tests/core/test_cli.py",
    "tests/worker/", "tests/test_signed_checkpoint.py", "tests/app/page/", "tests/app/test_demo.py",
)  # fmt: skip
"""Files and folders whose tests take longest, in order. They are run first, so that the processes of pytest-xdist end
together: it gives each a file at a time (with --no-loadscope-reorder in the order given)."""
OFTEN_WAITING = ("tests/app/", "tests/client/", "tests/worker/")
"""Folders whose tests wait for servers, browsers and leases about half of their time. They alternate with those that
compute, so that one process computes while the other waits."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files = list(dict.fromkeys(_file(item) for item in items))
    files.sort(key=lambda file: next((n for n, start in enumerate(LONGEST) if file.startswith(start)), len(LONGEST)))
    places: dict[str, float] = {}
    for waiting in (True, False):
        alike = [file for file in files if file.startswith(OFTEN_WAITING) is waiting]
        places |= {file: (place + 0.5) / len(alike) for place, file in enumerate(alike)}
    items.sort(key=lambda item: places[_file(item)])


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Collect garbage from now on, less often than by default: little of what tests make is in a cycle."""
    gc.set_threshold(5_000, 20, 10)
    gc.enable()


def pytest_report_header() -> str:
    """Which real parts this run uses."""
    return f"real parts: {find_postgres()}; {find_s3()}"


@pytest.fixture(scope="module", autouse=True)
def only_new_objects_collected() -> None:
    """Leave the modules that were imported until now, a million objects, out of every garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command within the test did to logging: its handler writes to a stream that is closed now."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the maintenance database of a running PostgreSQL."""
    try:
        with run_postgres() as url:
            yield url
    except NoPostgresError as error:
        pytest.skip(str(error))


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own, dropped after it."""
    with fresh_database(postgres_server) as url:
        yield url


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Mark of a test whose requests end before any statement depends on them: one database is enough."""


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the test's own, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a migrated SQLite database, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "test.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def emptied_postgres(postgres_server: str) -> Iterator[EmptiedDatabase]:
    """A migrated PostgreSQL database that tests use one after another."""
    with fresh_database(postgres_server) as template:
        upgrade(template)
        database = EmptiedDatabase(postgres_server, str(make_url(template).database))
        yield database
        database.close()


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of the test's own, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "test.db")
        yield f"sqlite:///{tmp_path / 'test.db'}"
    else:
        yield request.getfixturevalue("emptied_postgres").emptied()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A running S3 server."""
    try:
        with run_s3() as server:
            yield server
    except NoS3Error as error:
        pytest.skip(str(error))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory with room for 1 MiB."""
    directory = tmp_path / "small-disk"
    directory.mkdir()
    try:
        with mount_small_disk(directory, 2**20):
            yield directory
    except (NoSmallDiskError, FileNotFoundError) as error:
        pytest.skip(f"no disk to fill up: {error}")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that jobs may read from: a tiny model at ``model`` and a dataset at ``text.txt``."""
    from tests.tiny_model import build_tiny_llama, write_text_dataset  # and torch, which not all tests need

    root = tmp_path_factory.mktemp("sources")
    build_tiny_llama(root / "model", train_steps=0)
    write_text_dataset(root / "text.txt")
    return root
