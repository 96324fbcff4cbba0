"""The operator's commands."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app, main
from qpruner_core.threads import usable_cpus

pytestmark = pytest.mark.usefixtures("data_dir")

RUN = CliRunner()


def test_every_command_of_core_and_service_is_offered() -> None:
    listed = RUN.invoke(app, ["--help"]).output
    for command in ("compress", "estimate", "evaluate", "serve", "worker", "migrate", "keys"):
        assert command in listed


def test_a_key_is_made_listed_without_its_text_and_revoked() -> None:
    made = json.loads(RUN.invoke(app, ["keys", "create", "--name", "ci", "--scope", "read", "--json"]).output)
    listed = RUN.invoke(app, ["keys", "list", "--json"]).output
    assert made["key"] not in listed
    assert json.loads(listed) == [{name: value for name, value in made.items() if name != "key"}]
    assert (made["scopes"], made["expires_at"], made["revoked_at"]) == (["read"], None, None)
    assert datetime.fromisoformat(made["created_at"]).tzinfo
    table = RUN.invoke(app, ["keys", "list"]).output
    assert all(part in table for part in (made["id"], "read", made["created_at"], "never"))
    assert RUN.invoke(app, ["keys", "revoke", made["id"]]).exit_code == 0
    assert json.loads(RUN.invoke(app, ["keys", "list", "--json"]).output)[0]["revoked_at"]


def test_a_key_that_is_not_there_cannot_be_revoked() -> None:
    result = RUN.invoke(app, ["keys", "revoke", "key_none"])
    assert result.exit_code == 2
    assert "key_not_found" in result.stderr


def test_the_schema_goes_up_and_down() -> None:
    assert "revision 0" in RUN.invoke(app, ["migrate"]).output
    assert "revision base" in RUN.invoke(app, ["migrate", "--to", "base", "--down"]).output


def test_a_database_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    result = RUN.invoke(app, ["migrate"])
    assert result.exit_code == 3
    assert "QPRUNER_DATABASE_URL" in result.stderr


def test_it_settles_its_threads_before_any_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT"):
        monkeypatch.setenv(name, "")  # an empty one counts as none, and what is set in its place is undone
    monkeypatch.setattr(sys, "argv", ["qpruner", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["OMP_NUM_THREADS"] == str(usable_cpus())


@pytest.mark.parametrize("arguments", [["serve", "--port", "0"], ["worker"], ["migrate"], ["keys", "list"]], ids=str)
@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300])
def test_a_data_folder_that_cannot_be_written_is_named_at_once(
    arguments: list[str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("QPRUNER_DATA_DIR", str(tmp_path / place))
    result = RUN.invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert "data_dir" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_operators_size_that_may_mean_bits_is_refused_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_MAX_MODEL_BYTES", "6Gb")
    result = RUN.invoke(app, ["migrate"])
    assert result.exit_code == 2
    assert "QPRUNER_MAX_MODEL_BYTES: '6Gb' may mean bits. Give bytes" in result.stderr
    assert "Value error" not in result.stderr


def test_a_key_cannot_last_longer_than_the_calendar() -> None:
    assert RUN.invoke(app, ["keys", "create", "--name", "ci", "--days", str(10**12)]).exit_code == 2
