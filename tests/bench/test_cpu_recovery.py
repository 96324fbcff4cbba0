from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import cpu_recovery


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_page_has_each_method_at_each_ratio_beside_the_baseline(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    least = ["--shape", "tiny", "--ratios", "0.5", "--length", "16", "--markdown", str(page)]

    assert cpu_recovery.main(least) == 0

    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| 50% |")]
    methods = [cpu_recovery.BASELINE, cpu_recovery.FROM_TEXT, cpu_recovery.FROM_TEACHER]
    assert [row.split(" | ")[1] for row in rows] == methods
    assert rows[0].count("–") == 3
    assert all(
        float(row.split(" | ")[3].rstrip("%")) > 30 for row in rows[1:]
    )  # the loaded bytes follow from the shapes
