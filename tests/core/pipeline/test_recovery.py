"""The fine-tune stage within a run: what it tells, and that a run that was stopped within it ends the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qpruner_core import CompressionConfig
from qpruner_core.events import Event, RunWarning, StageFinished
from qpruner_core.stage_store import file_sha256
from tests.core.pipeline.conftest import BEFORE_RECOVERY, FinishedRun, continued, recover_until, steps_told

KILLED = """
import os, signal, sys
from pathlib import Path
from qpruner_core import CompressionConfig, compress

def on_event(event):
    if getattr(event, "name", None) == "finetune.loss" and event.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

compress(CompressionConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), on_event=on_event)
"""


def recovery(run: FinishedRun, **changed: Any) -> CompressionConfig:
    settings = {"evaluate_every": 4, "checkpoint_every": 3, "dropout": 0.1, **changed}
    return run.config.model_copy(update={"finetune": run.config.finetune.model_copy(update=settings)})


def quantized(run: FinishedRun, directory: Path) -> Path:
    """A place for a run whose stages before recovery are finished."""
    return continued(run, directory / "out", *BEFORE_RECOVERY)


def recover(config: CompressionConfig, output: Path, stop_at: int | None = None) -> tuple[str, list[Event]]:
    """As :func:`recover_until`, with the digest of the adapter."""
    stage, events = recover_until(config, output, stop_at)
    adapter = stage / "adapter" / "adapter_model.safetensors"
    return (file_sha256(adapter) if adapter.is_file() else ""), events


@pytest.fixture(scope="module")
def undisturbed(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Event]]:
    return recover(recovery(finished_run), quantized(finished_run, tmp_path_factory.mktemp("undisturbed")))


def test_the_summary_tells_the_loss_its_reason_and_the_curve(undisturbed: tuple[str, list[Event]]) -> None:
    (summary,) = [
        event.summary for event in undisturbed[1] if isinstance(event, StageFinished) and event.stage == "finetune"
    ]
    assert summary["loss"] == "distillation"
    assert "fit into memory" in summary["loss_reason"]
    assert summary["steps"] == 12
    curve = summary["validation"]
    assert [step for step, _ in curve] == [0, 4, 8, 12]
    assert summary["best_step"] == min(curve, key=lambda point: point[1])[0]
    assert summary["validation_sequences"] > 0
    assert steps_told(undisturbed[1]) == list(range(1, 13))
    assert steps_told(undisturbed[1], "finetune.validation_loss") == [0, 4, 8, 12]


@pytest.mark.parametrize("step", [1, 4, 11])
def test_a_recovery_cancelled_at_any_step_goes_on_there_and_ends_the_same(
    step: int, finished_run: FinishedRun, undisturbed: tuple[str, list[Event]], tmp_path: Path
) -> None:
    config, output = recovery(finished_run), quantized(finished_run, tmp_path)
    assert recover(config, output, stop_at=step)[0] == ""
    adapter, events = recover(config, output)
    assert steps_told(events) == list(range(step + 1, 13))
    assert adapter == undisturbed[0]
    assert not (tmp_path / "out.work" / "finetune.progress").exists()


def test_a_recovery_whose_process_was_killed_goes_on_from_the_last_saved_step_and_ends_the_same(
    finished_run: FinishedRun, undisturbed: tuple[str, list[Event]], tmp_path: Path
) -> None:
    config, output = recovery(finished_run), quantized(finished_run, tmp_path)
    script = [sys.executable, "-c", KILLED, config.model_dump_json(), str(output)]
    assert subprocess.run(script, env=os.environ, check=False).returncode == -signal.SIGKILL
    adapter, events = recover(config, output)
    assert steps_told(events) == list(range(7, 13))
    assert adapter == undisturbed[0]


def test_what_a_stopped_recovery_saved_is_not_used_with_other_settings(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    output = quantized(finished_run, tmp_path)
    recover(recovery(finished_run), output, stop_at=6)
    _, events = recover(recovery(finished_run, learning_rate=0.001), output)
    assert steps_told(events) == list(range(1, 13))


def test_without_memory_for_the_dense_model_recovery_learns_from_the_text_and_says_so(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qpruner_core.training.loss_choice.free_memory", lambda device: 400_000)
    output = quantized(finished_run, tmp_path)
    _, events = recover(recovery(finished_run), output)
    warnings = [event.message for event in events if isinstance(event, RunWarning)]
    assert any("trains on the text" in message and "400.0 kB" in message for message in warnings)
    record = json.loads((tmp_path / "out.work" / "finetune" / "stage.json").read_text())
    assert record["summary"]["loss"] == "cross_entropy"


def test_a_run_that_goes_on_keeps_its_loss_whatever_memory_is_free_then(
    finished_run: FinishedRun, undisturbed: tuple[str, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = quantized(finished_run, tmp_path)
    recover(recovery(finished_run), output, stop_at=5)
    monkeypatch.setattr("qpruner_core.training.loss_choice.free_memory", lambda device: 0)
    assert recover(recovery(finished_run), output)[0] == undisturbed[0]
