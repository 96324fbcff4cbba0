"""Where the signing key comes from."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.secrets import SigningKeyError, derive_key, load_signing_key
from app.settings import Settings

GIVEN = "0123456789abcdef" * 2


def test_a_given_key_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    assert load_signing_key(Settings(_env_file=None, data_dir=tmp_path, signing_key=GIVEN)) == GIVEN.encode()
    assert list(tmp_path.iterdir()) == []


def test_an_embedded_installation_makes_its_own_and_keeps_it(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data")
    first = load_signing_key(settings)
    assert len(first) == 64
    assert load_signing_key(settings) == first
    files = list((tmp_path / "data").iterdir())
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600]


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.secrets import load_signing_key;"
        "from app.settings import Settings;"
        "settings = Settings(_env_file=None, data_dir=Path(sys.argv[1])); sys.stdin.read();"
        "print(load_signing_key(settings).decode())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(keys) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["signing.key"]


@pytest.mark.parametrize(
    "values", [{"database_url": "postgresql://user@db.example/qpruner"}, {"store_url": "s3://bucket/prefix"}]
)
def test_parts_that_machines_share_need_a_key_that_they_share(tmp_path: Path, values: dict[str, str]) -> None:
    with pytest.raises(SigningKeyError) as caught:
        load_signing_key(Settings.model_validate({"data_dir": tmp_path, **values}))
    assert caught.value.field == "signing_key"
    assert "QPRUNER_SIGNING_KEY" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="fewer than 32"):
        load_signing_key(Settings(_env_file=None, data_dir=tmp_path, signing_key="secret"))


def test_an_empty_file_is_not_a_key(tmp_path: Path) -> None:
    (tmp_path / "signing.key").touch()
    with pytest.raises(SigningKeyError, match="fewer than 32"):
        load_signing_key(Settings(_env_file=None, data_dir=tmp_path))


def test_keys_of_different_purposes_differ() -> None:
    assert derive_key(b"x" * 32, "a") != derive_key(b"x" * 32, "b")
