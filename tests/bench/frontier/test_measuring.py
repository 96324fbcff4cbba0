"""Cells become rows, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.frontier.amounts import Amounts
from bench.frontier.cells import Cell, Command, Setting
from bench.frontier.measuring import Measuring
from bench.frontier.rows import FrontierRow, SourceRow
from bench.frontier.workplace import DENSE, Workplace, prepare
from bench.study.texts import Texts
from tests.tiny_model import build_tiny_llama, topic_paragraphs

_AMOUNTS = Amounts(models=("tiny",), tokens={"tiny": 1024}, sequences=2, length=32)


@dataclass
class _Copy:
    """Hands out the dense file as it is."""

    tool: str = "cp"
    settings: str = "none"
    calls: list[Path] = field(default_factory=list)

    def commands(self, setting: Setting, target: Path, allowed: int | None) -> Sequence[Command]:
        self.calls.append(target)
        return [["cp", str(setting.place.gguf), str(target)]]


@dataclass
class _Failing(_Copy):
    def commands(self, setting: Setting, target: Path, allowed: int | None) -> Sequence[Command]:
        return [["false"]]


def _workplace(folder: Path) -> Workplace:
    place = Workplace("tiny", folder)
    build_tiny_llama(place.dense, train_steps=2, dtype="bfloat16")
    source = SourceRow(model="tiny", source="", bytes=1, weights=1, error_before=0, error_after=0, divergence=0)
    place.rows.keep("source", source)
    paragraphs = topic_paragraphs(60_000)
    texts = Texts({"python": paragraphs[:60]}, {"held out": "\n\n".join(paragraphs[60:])})
    return prepare("tiny", folder, texts, _AMOUNTS, None)[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_copy_of_the_dense_model_differs_from_it_in_nothing_and_is_not_measured_twice(tmp_path: Path) -> None:
    place = _workplace(tmp_path)
    copy = _Copy()
    wanted = [
        Cell("fails", "copies", "gguf", _Failing()),
        Cell("behind it", "copies", "gguf", copy, against="fails"),
        Cell("copy", "copies", "gguf", copy),
    ]
    for _ in range(2):
        dense = place.rows.find(FrontierRow, DENSE)
        assert dense is not None
        rows = {DENSE: dense}
        Measuring(Setting(place, _AMOUNTS, Path("bin"), {}, rows), rows).run(wanted, workers=2)
        figures = rows["copy"].texts["held out"]
        assert (figures.divergence < 1e-5, figures.top1) == (True, 1.0)
        assert rows["copy"].cost.wall_seconds > 0
        assert rows["fails"].failure
        assert "fails" in rows["behind it"].failure
    assert len(copy.calls) == 1
