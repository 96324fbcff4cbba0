"""Reports as they are kept."""

from __future__ import annotations

from typing import Any

from qpruner_core.report import CompressionReport

OLD: dict[str, Any] = {
    "model": "demo", "revision": None, "dataset": "text.txt", "memory_budget": 1000, "seed": 0, "prune_ratio": 0.2,
    "bits": [4, 16], "widths": [{"mlp": 8}, {"mlp": 4}], "predicted_bytes": 990, "measurements": [],
    "stage_seconds": {"prune": 1.5}, "warnings": [], "files": [],
}  # fmt: skip
"""As release 0.1.0 wrote them."""


def test_a_report_of_the_first_release_has_its_layers_as_groups() -> None:
    report = CompressionReport.model_validate(OLD)
    assert report.groups == ["layers.0", "layers.1"]
    assert CompressionReport.model_validate_json(report.model_dump_json()) == report
