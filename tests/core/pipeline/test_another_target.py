"""Another target's file from a finished run: the recovered weights are kept, and nothing is pruned or trained again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from typer.testing import CliRunner

from qpruner_core import CompressionReport, compress
from qpruner_core.another_target import export_run
from qpruner_core.cli import app
from qpruner_core.errors import (
    BudgetInfeasibleError,
    DatasetInvalidError,
    DatasetNotFoundError,
    InvalidConfigError,
    OutputInvalidError,
    UnsupportedByTargetError,
)
from qpruner_core.events import Event, StageFinished, StageStarted
from qpruner_core.models.gguf.split import read_model
from tests.core.pipeline.conftest import QUICK, FinishedRun, checkpoint_hashes, quick_config
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer

BUDGET = 220_000


@pytest.fixture
def run(finished_run: FinishedRun, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    output = tmp_path / "out"
    shutil.copytree(finished_run.output, output)
    shutil.copytree(finished_run.output.with_name("out.work"), output.with_name("out.work"))
    return output


@pytest.fixture(scope="module")
def exported(
    finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, CompressionReport, list[Event]]:
    output = tmp_path_factory.mktemp("exported") / "gguf"
    events: list[Event] = []
    report = export_run(finished_run.output, target="gguf", output=output, memory_budget=BUDGET, on_event=events.append)
    return output, report, events


def test_the_file_is_of_the_new_target_and_within_the_budget_in_its_bytes(
    exported: tuple[Path, CompressionReport, list[Event]],
) -> None:
    output, report, _ = exported
    tensors = read_model(output / "model.gguf").tensors.values()
    size = sum(tensor.size for tensor in tensors)
    assert size == report.predicted_bytes == report.measurement("final").bytes <= BUDGET
    assert size == sum(int(tensor.n_bytes) for tensor in GGUFReader(output / "model.gguf").tensors)
    assert report.exported[0].path == "model.gguf"


def test_report_recipe_and_card_name_what_modules_are_stored_in_where_their_shapes_do_not_fit_the_option(
    exported: tuple[Path, CompressionReport, list[Event]],
) -> None:
    output, report, _ = exported
    in_file = [tensor.tensor_type.name.lower() for tensor in GGUFReader(output / "model.gguf").tensors]
    recipe = json.loads((output / "recipe.json").read_text())
    assert recipe["precisions"] == dict(zip(report.groups, report.precisions, strict=True))
    stored = {name for names in report.stored for name in names}
    assert stored == set(recipe["stored"].values()) == set(in_file) - {"f32"}
    options = zip(report.precisions, report.stored, strict=True)
    assert any(set(names) != {option} for option, names in options)  # rows of 32 to 96 weights, and blocks of 256
    card = (output / "README.md").read_text()
    assert all(f" in {' and '.join(names)}" in card for names in report.stored)


def test_it_has_the_shape_of_the_run_and_what_that_had_learned(
    exported: tuple[Path, CompressionReport, list[Event]], finished_run: FinishedRun
) -> None:
    _, report, _ = exported
    assert report.widths == finished_run.report.widths
    before = finished_run.report.measurement("final")
    recovered, pruned = (
        report.measurement("pruned").perplexity,
        finished_run.report.measurement("pruned").perplexity,
    )
    assert recovered != pruned  # it has what was learned; on a model that small that may be worse by a trifle
    assert abs(recovered - before.perplexity) < 0.1 * before.perplexity


def test_nothing_is_pruned_or_trained_again_and_a_second_call_does_nothing_anew(
    exported: tuple[Path, CompressionReport, list[Event]], finished_run: FinishedRun
) -> None:
    output, report, events = exported
    assert "prune" not in [event.stage for event in events if isinstance(event, StageStarted)]
    recipe = json.loads((output / "recipe.json").read_text())
    assert recipe["config"]["finetune"]["steps"] == 0
    assert any("nothing was pruned or recovered again" in warning for warning in report.warnings)
    before, again = checkpoint_hashes(output), list[Event]()
    export_run(finished_run.output, target="gguf", output=output, memory_budget=BUDGET, on_event=again.append)
    assert checkpoint_hashes(output) == before
    assert all(event.resumed for event in again if isinstance(event, StageFinished))


def test_the_command_line_makes_it_beside_the_run_and_says_how_it_is_run(run: Path) -> None:
    done = CliRunner().invoke(
        app, ["export", str(run), "--target", "gguf", "--memory-budget", "220kB"], env={"COLUMNS": "100"}
    )
    assert done.exit_code == 0, done.output
    assert (run.with_name("out-gguf") / "model.gguf").is_file()
    assert "Before and after" in done.output
    assert "llama-server -m model.gguf" in done.output


def test_a_run_that_is_not_finished_is_refused_by_what_is_missing(run: Path) -> None:
    shutil.rmtree(run.with_name("out.work") / "finetune")
    with pytest.raises(InvalidConfigError, match=r"finetune/stage\.json") as caught:
        export_run(run, target="gguf")
    assert caught.value.field == "directory"
    assert "compress" in caught.value.remedy


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"recipe\.json"):
        export_run(tmp_path / "nothing", target="gguf")


def test_weights_that_were_changed_are_refused(run: Path) -> None:
    path = run.with_name("out.work") / "quantize" / "model" / "config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(InvalidConfigError, match="changed"):
        export_run(run, target="gguf")


def test_a_dataset_that_is_gone_or_another_is_refused(run: Path, finished_run: FinishedRun, tmp_path: Path) -> None:
    dataset = tmp_path / "text.txt"
    shutil.copyfile(finished_run.config.dataset, dataset)
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["config"]["dataset"] = str(dataset)
    (run / "recipe.json").write_text(json.dumps(recipe))
    dataset.write_text(dataset.read_text() + "\n\nMore text.\n")
    with pytest.raises(DatasetInvalidError, match="has changed since"):
        export_run(run, target="gguf")
    dataset.unlink()
    with pytest.raises(DatasetNotFoundError):
        export_run(run, target="gguf")


def test_a_budget_below_the_smallest_of_the_new_target_is_refused_with_that(run: Path) -> None:
    with pytest.raises(BudgetInfeasibleError, match="gguf") as caught:
        export_run(run, target="gguf", memory_budget=1000)
    smallest = caught.value.smallest_feasible_bytes
    assert smallest is not None
    assert str(smallest) in caught.value.remedy
    assert not run.with_name("out-gguf.work").exists()


def test_the_output_of_the_run_itself_is_refused(run: Path) -> None:
    with pytest.raises(OutputInvalidError):
        export_run(run, target="gguf", output=run)


def test_widths_that_the_engine_cannot_have_are_refused_before_the_first_stage(
    text_dataset: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    build_tokenizer(model)
    small_model("qwen3", dtype=torch.bfloat16, vocab_size=300, use_sliding_window=False).save_pretrained(model)
    config = quick_config(
        model, text_dataset, memory_budget=150_000, target="bitsandbytes", prune=QUICK["prune"] | {"ratio": 0.15}
    )
    compress(config, tmp_path / "out")
    with pytest.raises(UnsupportedByTargetError, match="qwen3") as caught:
        export_run(tmp_path / "out", target="gguf")
    assert caught.value.field == "prune.layout"
