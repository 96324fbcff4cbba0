"""Rows that an earlier report holds count as measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.frontier.amounts import Amounts
from bench.frontier.run import rows_to_take_over
from qpruner_core.errors import InvalidConfigError
from tests.bench.frontier.reports import MODEL, report


def test_the_rows_of_a_report_are_taken_over_if_it_has_the_same_amounts_of_text_and_calibration(tmp_path: Path) -> None:
    file = tmp_path / "frontier.json"
    with pytest.raises(InvalidConfigError, match="does not exist"):
        rows_to_take_over(file, Amounts())
    earlier = report(share=0.5, times=2.0)
    file.write_text(earlier.model_dump_json())
    fewer_rows = earlier.amounts.model_copy(update={"rivals": False, "ratios": (0.3,)})
    assert rows_to_take_over(file, fewer_rows) == {MODEL: [(row.name, row) for row in earlier.rows]}
    for other in ({"tokens": {MODEL: 1}}, {"sequences": 1}, {"length": 1}):
        with pytest.raises(InvalidConfigError, match="other amounts"):
            rows_to_take_over(file, earlier.amounts.model_copy(update=other))
