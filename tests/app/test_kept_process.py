"""A process that is kept is started again, whatever goes wrong around it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from app.kept_process import KeptProcess
from tests.server_processes import wait_until


def _keep(tmp_path: Path, log: Path | None = None, on_end: Callable[[int], None] | None = None) -> KeptProcess:
    """A process that writes a letter into ``starts`` and ends."""
    code = f"open({str(tmp_path / 'starts')!r}, 'a').write('x')"
    return KeptProcess("writer", [sys.executable, "-S", "-c", code], log=log, on_end=on_end)


def _starts(tmp_path: Path) -> int:
    path = tmp_path / "starts"
    return len(path.read_text()) if path.exists() else 0


def test_it_is_started_again_though_noting_its_end_fails(tmp_path: Path) -> None:
    def broken(pid: int) -> None:
        raise RuntimeError("no database")

    kept = _keep(tmp_path, on_end=broken)
    kept.start()
    assert wait_until(lambda: _starts(tmp_path) >= 2)
    kept.stop(5)


def test_it_is_started_once_it_can_be(tmp_path: Path) -> None:
    kept = _keep(tmp_path, log=tmp_path / "logs" / "log")
    kept.start()
    assert not wait_until(lambda: _starts(tmp_path) > 0, 0.5)
    (tmp_path / "logs").mkdir()
    assert wait_until(lambda: _starts(tmp_path) >= 1)
    kept.stop(5)
