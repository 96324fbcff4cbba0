"""The cells come in an order in which each finds what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.frontier.amounts import QUICK, Amounts
from bench.frontier.cells import Setting
from bench.frontier.plan import cells
from bench.frontier.workplace import GEMMA3, SMOLLM2, Workplace


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("model", [SMOLLM2, GEMMA3])
def test_each_cell_needs_only_cells_before_it_and_has_a_name_of_its_own(model: str, quick: bool) -> None:
    setting = Setting(Workplace(model, Path("x")), QUICK if quick else Amounts(), Path("bin"), {}, {})
    before: set[str] = set()
    for cell in cells(setting, quick=quick):
        assert {name for name in (cell.against, *cell.needs) if name} <= before, cell.name
        assert cell.name not in before
        before.add(cell.name)
