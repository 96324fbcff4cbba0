"""Since when nothing but a child's next line is waited for."""

from __future__ import annotations

import queue
import time

from qpruner_core.events import StageStarted
from worker.protocol import Line
from worker.told_lines import ToldLines


def test_a_child_is_quiet_only_while_it_is_listened_to() -> None:
    lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
    told, begun = ToldLines(), time.monotonic()
    assert list(told.so_far(lines, 0.01)) == []
    since = told.quiet_since
    assert since is not None
    assert begun <= since
    with told.not_listening():  # say, the database is away
        assert told.quiet_since is None
        time.sleep(0.1)
    assert told.quiet_since is not None
    assert told.quiet_since >= since + 0.1
    lines.put(StageStarted(stage="prune"))
    lines.put(None)
    assert list(told.so_far(lines, 1)) == [StageStarted(stage="prune"), None]
    assert told.quiet_since is None
    with told.not_listening():
        pass
    assert told.quiet_since is None
