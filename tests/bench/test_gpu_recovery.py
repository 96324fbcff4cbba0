from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import gpu_recovery
from bench.device_memory import DevicePeak, measured
from bench.gpu_recovery_report import GpuAmounts, GpuReport, GpuRow, render, verdicts

LEAST = [
    "--shape", "tiny", "--ratios", "0.2", "--sequences", "2", "--trials", "3", "--steps", "1", "--batch-size", "1",
    "--length", "32", "--memory-steps", "1", "--prompt", "16", "--generated", "2", "--last", "finetune",
]  # fmt: skip


def _row(method: str, recovery: int | None, forward: int | None, generation: int | None) -> GpuRow:
    sizes = {"recovery": recovery, "forward": forward, "generation": generation}
    peaks = [
        DevicePeak(stage=stage, device_bytes=None if size is None else size + 5, before=5, seconds=1.0)
        for stage, size in sizes.items()
    ]
    return GpuRow(
        key="", method=method, ratio=0.2, date="2026-01-31", bytes=600_000_000, seconds={"prune": 12.3}, peaks=peaks
    )


def test_thirty_percent_less_is_told_of_recovery_and_of_the_larger_of_both_ways_of_inference() -> None:
    rows = [_row("LLM-Pruner", 1000, 900, 1000), _row("a", 700, 800, 600), _row("b", 1100, 500, 701)]

    assert verdicts(rows) == [
        "- 20%, a: recovery yes (30.0% less); inference no (20.0% less)",
        "- 20%, b: recovery no (10.0% more); inference no (29.9% less)",
    ]


def test_without_figures_or_a_baseline_nothing_is_claimed() -> None:
    assert verdicts([_row("LLM-Pruner", 10, 10, 10), _row("a", None, None, None)]) == [
        "- 20%, a: recovery not measured; inference not measured"
    ]
    assert verdicts([_row("a", 1, 1, 1)]) == []


def test_the_page_has_every_peak_and_the_seconds_of_the_stages_that_ran() -> None:
    rows = [_row("LLM-Pruner", 20_000_000_000, 12_000_000_000, 13_000_000_000)]
    page = render(GpuReport(device="a GPU", versions="torch 2", weights=1, amounts=GpuAmounts(), rows=rows))

    assert "| 20% | LLM-Pruner | 600.0 MB | 20.0 GB | 12.0 GB | 13.0 GB |" in page
    assert "| 20% | LLM-Pruner | 12.3 | – | – | – | – | – | – |" in page
    for said in ("a GPU", "torch 2", "2026-01-31", "1 × 2048 tokens"):
        assert said in page


def test_a_peak_is_told_above_what_was_taken_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in {
        "is_available": True, "memory_allocated": 100, "max_memory_allocated": 350, "empty_cache": None,
        "reset_peak_memory_stats": None, "synchronize": None,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    peaks: list[DevicePeak] = []

    with measured("load", peaks):
        pass

    assert (peaks[0].device_bytes, peaks[0].added) == (350, 250)


def test_every_method_is_measured_once_and_a_run_that_was_ended_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*LEAST, "--work-dir", str(tmp_path / "work"), "--markdown", str(tmp_path / "page.md")]
    undisturbed, calls = gpu_recovery.recover, []

    def interrupted(*given: object) -> None:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        undisturbed(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(gpu_recovery, "recover", interrupted)
    assert gpu_recovery.main(arguments) == 130
    assert "goes on" in capsys.readouterr().err
    assert (tmp_path / "page.md").read_text().count("| 20% | ") == 2  # the first method, in both tables

    assert gpu_recovery.main(arguments) == 0
    assert gpu_recovery.main(arguments) == 0

    assert len(calls) == len(gpu_recovery.METHODS) + 1  # each once, and the one that was ended twice
    page = (tmp_path / "page.md").read_text()
    for method in gpu_recovery.METHODS:
        assert page.count(f"| 20% | {method.name} | ") == 2
    if not torch.cuda.is_available():
        assert "device memory is not measured" in page
        assert page.count("recovery not measured; inference not measured") == 2
    assert not list((tmp_path / "work").glob("*/cell-*"))  # stages are gone, rows are not


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is at hand")
def test_without_a_gpu_the_large_shape_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_recovery.main([]) == 2
    assert "No GPU is at hand" in capsys.readouterr().out
