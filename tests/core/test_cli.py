from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from qpruner_core.cli import app
from qpruner_core.compute.processor import processor_name
from qpruner_core.events import STAGES
from tests.server_processes import wait_until

TINY = [
    "--set", "sequence_length=64", "--set", "prune.protect_first=1", "--set", "prune.protect_last=1",
    "--set", "prune.width_multiple=8", "--set", "prune.calibration_sequences=4",
    "--set", "score.calibration_sequences=2", "--set", "allocate.calibration_sequences=2",
    "--set", "evaluate.max_tokens=512",
    "--set", "evaluate.generated_tokens=2",
]  # fmt: skip


def here(*arguments: str) -> Result:
    """The command line in this process: what is refused before any work is not worth the start of another."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100"})


def qpruner(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user starts it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "qpruner_core", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_compress_prints_one_json_document_and_a_second_call_goes_on(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    arguments = [
        "compress", str(tiny_llama), "--dataset", str(text_dataset), "--memory-budget", "300kB",
        "--target", "bitsandbytes",
        "--output", str(tmp_path / "out"), "--prune-ratio", "0.2", "--trials", "5", "--finetune-steps", "3", *TINY,
    ]  # fmt: skip
    done = qpruner(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    [final] = [row for row in report["measurements"] if row["variant"] == "final"]
    assert final["bytes"] <= 300_000
    assert report["compute"]["products"] in ("bfloat16", "float32")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["machine"]["compute_dtype"] == report["compute"]["products"]
    started = [line.split("] ")[1].partition(":")[0] for line in done.stderr.splitlines() if ": started" in line]
    assert started == list(STAGES)  # beside the document, whose stream stays its own
    again = here(*arguments)
    assert again.exit_code == 0
    assert "Before and after" in again.stdout
    assert again.stdout.count("done before") == 7  # as `> log` has it
    assert again.stderr == ""

    generated = here("generate", str(tmp_path / "out" / "mixed"), "--prompt", "The", "--json")
    assert json.loads(generated.stdout)["bytes"] == final["bytes"]
    evaluated = here(
        "evaluate", str(tmp_path / "out" / "mixed"), "--text", str(text_dataset), "--sequence-length", "64",
        "--max-tokens", "256", "--compute-dtype", "float32", "--json",
    )  # fmt: skip
    assert json.loads(evaluated.stdout)["perplexity"] > 1


def test_the_version_names_processor_and_type_of_products() -> None:
    shown = here("--version").output
    assert f"qpruner       {version('qpruner')}" in shown
    assert any(f"compute_dtype {name}" in shown for name in ("bfloat16", "float32"))
    assert processor_name(torch.device("cpu")) in " ".join(shown.split())


def test_estimate_says_whether_it_is_feasible_by_its_exit_code(tiny_llama: Path) -> None:
    good = here("estimate", str(tiny_llama), "--memory-budget", "300kB", "--json", *TINY)
    assert good.exit_code == 0, good.stderr
    assert json.loads(good.stdout)["feasible"] is True
    bad = here("estimate", str(tiny_llama), "--memory-budget", "10kB", *TINY)
    assert bad.exit_code == 2
    assert "Not feasible" in bad.stdout


def test_the_target_is_an_option_and_brings_its_own_sizes(tiny_llama: Path) -> None:
    sizes = {}
    for target in ("gguf", "compressed-tensors", "bitsandbytes"):
        done = here("estimate", str(tiny_llama), "--memory-budget", "300kB", "--target", target, "--json", *TINY)
        assert done.exit_code == 0, done.output
        sizes[target] = json.loads(done.stdout)["smallest_feasible_bytes"]
    assert len(set(sizes.values())) == 3
    refused = here("estimate", str(tiny_llama), "--memory-budget", "300kB", "--target", "onnx")
    assert refused.exit_code == 2


@pytest.mark.parametrize(
    ("budget", "code"),
    [("0", "budget_invalid"), ("-5MB", "budget_invalid"), ("many", "budget_invalid"), ("9999TB", "budget_invalid"),
     ("10kB", "budget_infeasible"), ("1e400", "budget_invalid")],
)  # fmt: skip
def test_a_bad_budget_is_told_as_json_with_its_field(
    budget: str, code: str, tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    done = here(
        "compress", str(tiny_llama), "--dataset", str(text_dataset), f"--memory-budget={budget}",
        "--output", str(tmp_path / "out"), "--json", *TINY,
    )  # fmt: skip
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert error["field"] == "memory_budget"
    assert error["remedy"]
    assert not list(tmp_path.iterdir())


def test_an_unknown_setting_is_refused_by_name(tiny_llama: Path, text_dataset: Path, tmp_path: Path) -> None:
    done = here(
        "compress", str(tiny_llama), "--dataset", str(text_dataset), "--memory-budget", "300kB",
        "--output", str(tmp_path / "out"), "--set", "prune.ratioo=0.2",
    )  # fmt: skip
    assert done.exit_code == 2
    assert "prune.ratioo" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_model_is_told_without_a_traceback(text_dataset: Path, tmp_path: Path) -> None:
    done = qpruner(
        "compress", str(tmp_path / "none"), "--dataset", str(text_dataset), "--memory-budget", "1MB",
        "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 2
    assert "model_not_found" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_stops_between_batches_and_keeps_finished_stages(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    arguments = [
        "compress", str(tiny_llama), "--dataset", str(text_dataset), "--memory-budget", "300kB",
        "--output", str(tmp_path / "out"), "--finetune-steps", "100000", "--prune-ratio", "0.2", "--trials", "4", *TINY,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "qpruner_core", *arguments], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        partial = tmp_path / "out.work" / "finetune.partial"
        assert wait_until(lambda: partial.exists() or process.poll() is not None, 250, every=0.02)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "cancelled" in errors
    assert (tmp_path / "out.work" / "quantize" / "stage.json").exists()
    assert not (tmp_path / "out.work" / "finetune.partial").exists()
