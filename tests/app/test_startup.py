"""A bad setting at the start ends in one sentence that names it and the remedy."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from app.cli import app
from app.settings import Settings

pytestmark = pytest.mark.usefixtures("data_dir")

RUN = CliRunner()
SECRET = "s3cr3t-pa55word"

BAD = [
    ("DATABASE_URL", f"garbage with {SECRET}", "QPRUNER_DATABASE_URL: Not a database URL. Give"),
    ("DATABASE_URL", f"mysql://me:{SECRET}@host/name", "The database 'mysql' is not supported"),
    ("DATABASE_URL", f"postgresql://me:{SECRET}@host:port/name", "Not a database URL"),
    ("DATABASE_URL", "sqlite+aiosqlite:////tmp/x.db", "The driver 'sqlite+aiosqlite' is not supported"),
    ("DATABASE_URL", "sqlite://", "must be a file"),
    ("DATABASE_URL", "sqlite:///:memory:", "must be a file"),
    ("BROKER_URL", f"garbage {SECRET}", "QPRUNER_BROKER_URL: Not a Redis URL. Give"),
    ("BROKER_URL", "amqp://host", "Not a Redis URL"),
    ("BROKER_URL", "redis://host:70000/0", "Not a Redis URL"),
    ("STORE_URL", "ftp://host/x", "QPRUNER_STORE_URL"),
    ("S3_ENDPOINT_URL", "nonsense", "QPRUNER_S3_ENDPOINT_URL: Not an HTTP address. Give"),
    ("PUBLIC_URL", "prune.example.org:8000", "QPRUNER_PUBLIC_URL: Not an HTTP address"),
    ("HUB_ENDPOINT", "hub", "QPRUNER_HUB_ENDPOINT: Not an HTTP address"),
    ("ALLOWED_ROOTS", "[/models", "QPRUNER_ALLOWED_ROOTS: It begins like a JSON list but is not one. Give"),
    ("ALLOWED_ROOTS", "[1]", "QPRUNER_ALLOWED_ROOTS"),
    ("LOG_LEVEL", "loud", "QPRUNER_LOG_LEVEL: 'loud' is not a log level. Give one of"),
    ("PORT", "65536", "QPRUNER_PORT"),
    ("LEASE_SECONDS", "soon", "QPRUNER_LEASE_SECONDS"),
    ("ALLOW_HUB", "perhaps", "QPRUNER_ALLOW_HUB"),
    ("SIGNING_KEY", "short", "signing_key"),
]


def refused(*arguments: str, exit_code: int = 2) -> str:
    """What the command says as it refuses to start: one line, and no traceback."""
    result = RUN.invoke(app, arguments)
    assert result.exit_code == exit_code, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = result.stderr.strip().splitlines()
    assert re.match(r"[a-z_]+ \S", line)
    assert SECRET not in line
    return line


@pytest.mark.parametrize(("name", "value", "said"), BAD)
@pytest.mark.parametrize("command", [("serve", "--port", "0", "--no-worker"), ("worker",)], ids=["serve", "worker"])
def test_a_bad_setting_is_named_with_its_remedy(
    command: tuple[str, ...], name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command[0] == "worker":
        assert RUN.invoke(app, ["migrate"]).exit_code == 0
    monkeypatch.setenv(f"QPRUNER_{name}", value)
    assert said in refused(*command)


@pytest.mark.parametrize("value", ["/models:/data", '["/models", "/data"]', "/models::/data:"])
def test_allowed_roots_are_paths_with_colons_or_json(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_ALLOWED_ROOTS", value)
    assert Settings(_env_file=None).allowed_roots == (Path("/models"), Path("/data"))
    monkeypatch.setenv("QPRUNER_ALLOWED_ROOTS", "")
    assert Settings(_env_file=None).allowed_roots == ()


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("DATABASE_URL", "BROKER_URL", "STORE_URL", "PUBLIC_URL", "S3_ENDPOINT_URL", "HUB_ENDPOINT")
    for name in names:
        monkeypatch.setenv(f"QPRUNER_{name}", "")
    settings = Settings(_env_file=None)
    assert [getattr(settings, name.lower()) for name in names] == [None] * len(names)


def test_a_file_of_settings_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"QPRUNER_PORT=\xff\xfe")
    assert ".env" in refused("migrate")


@pytest.mark.parametrize("command", [("serve", "--port", "0", "--no-worker"), ("migrate",), ("keys", "list")], ids=str)
@pytest.mark.parametrize("content", [b"no database at all, but a text of some length" * 50, None])
def test_a_corrupt_sqlite_file_is_told(command: tuple[str, ...], content: bytes | None, data_dir: Path) -> None:
    path = data_dir / "qpruner.db"
    if content is None:  # one that was a database once
        assert RUN.invoke(app, ["migrate"]).exit_code == 0
        with path.open("r+b") as stream:
            stream.seek(100)
            stream.write(os.urandom(path.stat().st_size - 100))
        for beside in (f"{path}-wal", f"{path}-shm"):
            Path(beside).unlink(missing_ok=True)
    else:
        data_dir.mkdir()
        path.write_bytes(content)
    assert "damaged" in refused(*command)


@pytest.mark.parametrize("place", ["/proc/none/x.db", "/dev/null/x.db", "."])
def test_a_sqlite_file_that_cannot_be_made_is_told(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_DATABASE_URL", f"sqlite:///{place}")
    assert "cannot be used" in refused("migrate")


@pytest.mark.parametrize("command", [("serve", "--port", "0", "--no-worker"), ("worker",), ("migrate",)], ids=str)
def test_a_database_ahead_of_the_code_is_told(
    command: tuple[str, ...], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPRUNER_DATABASE_URL", database_url)
    monkeypatch.setenv("QPRUNER_SIGNING_KEY", "k" * 40)
    _set_revision(database_url, "9999")
    said = refused(*command)
    assert "revision 9999, which is unknown to this release" in said
    assert said.startswith("schema_mismatch")


def test_a_worker_on_a_database_that_was_not_migrated_names_the_command() -> None:
    assert "`qpruner migrate`" in refused("worker")


def test_a_revision_that_does_not_exist_is_told_with_those_that_do() -> None:
    assert "0001" in refused("migrate", "--to", "later")


@pytest.mark.service
def test_a_postgresql_that_lets_nobody_in_is_told(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for changed in ({"database": "no_such_database"}, {"username": "no_such_role"}):
        url = make_url(postgres_server).set(**changed).render_as_string(hide_password=False)  # type: ignore[arg-type]
        monkeypatch.setenv("QPRUNER_DATABASE_URL", url)
        assert "The database refuses" in refused("migrate")


def test_a_connection_option_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_DATABASE_URL", "postgresql://127.0.0.1:1/x?no_such_option=1")
    assert "no_such_option" in refused("migrate")


@pytest.mark.parametrize("name", ["signing.key", "serve.lock", "qpruner.db"])
def test_a_folder_where_a_file_of_ours_should_be_is_told(name: str, data_dir: Path) -> None:
    (data_dir / name).mkdir(parents=True)
    said = refused("serve", "--port", "0", "--no-worker")
    assert name in said or "SQLite" in said


def test_a_port_that_does_not_exist_is_refused() -> None:
    assert RUN.invoke(app, ["serve", "--port", "70000"]).exit_code == 2


def _set_revision(url: str, revision: str) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(str(make_url(url).database))) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    else:
        import psycopg

        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            connection.execute("UPDATE alembic_version SET version_num = %s", (revision,))
