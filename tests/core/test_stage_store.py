"""A run may be killed at any instant: what it leaves is known as its own, and the next run goes through."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

from qpruner_core.stage_store import StageStore

_COUNTED = ("stage_store.py", "shutil.py")


def _finish_a_stage(root: Path) -> None:
    store = StageStore(root)
    store.refuse_foreign()
    with store.begin("score") as partial:
        (partial / "files").mkdir()
        (partial / "files" / "a").write_text("a")
        (partial / "z").write_text("z")
        store.progress_directory("score").mkdir(exist_ok=True)
        store.commit("score", "key", partial, {}, 0.0)


def _killed_after(lines: int, work: Callable[[], None]) -> bool:
    """Run ``work`` in a fork that ends at once after so many lines of the modules that write; whether it was ended."""
    child = os.fork()
    if child == 0:
        left = lines

        def count(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename.endswith(_COUNTED):
                left -= event == "line"
            if left < 0:
                os._exit(9)
            return count

        sys.settrace(count)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_run_killed_at_any_line_leaves_nothing_that_stops_the_next(tmp_path: Path) -> None:
    _in_a_small_process(_kill_at_any_line, tmp_path)


def test_a_second_kill_while_the_next_run_cleans_up_changes_nothing(tmp_path: Path) -> None:
    _in_a_small_process(_kill_twice, tmp_path)


def _in_a_small_process(check: Callable[[Path], None], folder: Path) -> None:
    """Forks of a process that has loaded torch and hundreds of tests take several times as long."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        processes.submit(check, folder).result()


def _kill_at_any_line(folder: Path) -> None:
    finished = folder / "finished"
    _finish_a_stage(finished)
    for begins_with in ("nothing", "a finished stage"):
        lines, killed = 0, True
        while killed:
            root = folder / begins_with / str(lines)
            root.mkdir(parents=True)
            if begins_with == "a finished stage":
                _finish_a_stage(root)
            killed = _killed_after(lines, lambda root=root: _finish_a_stage(root))  # type: ignore[misc]
            _finish_a_stage(root)
            assert StageStore(root).load("score", "key") is not None
            lines += 3
        assert lines > 150


def _kill_twice(folder: Path) -> None:
    for first in range(10, 200, 40):
        for second in range(10, 200, 25):
            root = folder / f"{first}-{second}"
            root.mkdir()
            _killed_after(first, lambda root=root: _finish_a_stage(root))  # type: ignore[misc]
            _killed_after(second, lambda root=root: _finish_a_stage(root))  # type: ignore[misc]
            _finish_a_stage(root)
            assert StageStore(root).load("score", "key") is not None
