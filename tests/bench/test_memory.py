from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_benchmark_measures_every_phase_of_every_way(tmp_path: Path) -> None:
    sizes = ["--hidden", "64", "--layers", "9", "--intermediate", "256", "--heads", "4", "--vocabulary", "300"]
    files = ["--json", str(tmp_path / "figures.json"), "--markdown", str(tmp_path / "page.md")]
    ways = ["--ways", "ours", "plain", "--sequences", "1", "--length", "16"]
    subprocess.run([sys.executable, "-m", "bench.memory", *sizes, *files, *ways], check=True, capture_output=True)
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["weights"] == 2 * report["parameters"]
    for way in report["ways"]:
        phases = [phase["phase"] for phase in way["phases"]]
        assert [phase for phase in phases if phase != "refit"] == ["load", "score", "prune", "write"]
        assert all(phase["resident"] > 0 for phase in way["phases"])
    assert (tmp_path / "page.md").read_text().count("**all**") == 2


def test_the_gpu_benchmark_runs_at_a_tiny_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--shape", "tiny", "--sequences", "1", "--length", "16"]) == 0
    printed = capsys.readouterr().out
    for stage in ("load", "score", "cut", "write"):
        assert f"| prune: {stage} |" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is at hand")
def test_without_a_gpu_the_large_shape_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert "No GPU is at hand" in capsys.readouterr().out
