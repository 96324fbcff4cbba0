from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from qpruner_core import compress
from qpruner_core.errors import CancelledError
from qpruner_core.events import Event, StageStarted
from qpruner_core.stage import StageContext
from tests.core.pipeline.conftest import quick_config


class Cycle:
    """As a model with hooks that know it."""

    def __init__(self) -> None:
        self.itself = self


def test_a_stage_begins_when_what_the_one_before_left_in_cycles_is_gone(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[weakref.ref[Cycle]] = []
    still_there: list[bool] = []

    def first(context: StageContext, output: Path) -> dict[str, Any]:
        left.append(weakref.ref(Cycle()))
        return {}

    def second(context: StageContext, output: Path) -> dict[str, Any]:
        raise CancelledError("enough was seen")

    def listen(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "score":
            still_there.append(left[0]() is not None)

    monkeypatch.setattr("qpruner_core.pipeline.load_stage", {"prune": first, "score": second}.get)
    gc.disable()  # or Python might collect by itself just then
    try:
        with pytest.raises(CancelledError):
            compress(quick_config(tiny_llama, text_dataset), tmp_path / "out", on_event=listen)
    finally:
        gc.enable()

    assert still_there == [False]
