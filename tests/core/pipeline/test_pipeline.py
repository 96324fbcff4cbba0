from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from qpruner_core import CancelToken, CompressionConfig, check, compress, pipeline
from qpruner_core.errors import (
    BudgetInfeasibleError,
    BudgetInvalidError,
    CancelledError,
    DatasetTooShortError,
    DiskFullError,
    InvalidConfigError,
    MemoryTooSmallError,
    OutputInvalidError,
    TrainingDivergedError,
)
from qpruner_core.events import STAGES, Event, StageFinished, StageName, StageProgress, TimesExpected, TrialRecorded
from qpruner_core.export.config import ExportConfig
from qpruner_core.models.model_config import read_config
from qpruner_core.models.reshape import bytes_in_16_bits
from qpruner_core.resources import total_memory
from qpruner_core.sizes import format_bytes
from qpruner_core.stage_store import file_sha256
from tests.core.pipeline.conftest import (
    BEFORE_RECOVERY,
    QUICK,
    FinishedRun,
    checkpoint_hashes,
    continued,
    quick_config,
    recover_until,
    search_again,
)
from tests.small_disk import NoSmallDiskError, mount_small_disk


def test_every_stage_runs_once_in_order(finished_run: FinishedRun) -> None:
    finished = [event for event in finished_run.events if isinstance(event, StageFinished)]
    assert tuple(event.stage for event in finished) == STAGES
    assert not any(event.resumed for event in finished)
    assert all(event.files for event in finished if event.stage != "evaluate")
    [expected] = [event for event in finished_run.events if isinstance(event, TimesExpected)]
    assert set(expected.seconds) == set(STAGES)


def test_the_final_model_is_within_the_budget_and_as_large_as_predicted(finished_run: FinishedRun) -> None:
    final = finished_run.report.measurement("final")
    assert final.bytes <= finished_run.config.memory_budget
    assert final.bytes == finished_run.report.predicted_bytes


def test_the_final_model_is_nearer_to_the_dense_one_than_the_pruned_model_at_uniform_nf4(
    finished_run: FinishedRun,
) -> None:
    rows = {row.variant: row for row in finished_run.report.measurements}
    assert list(rows) == ["dense", "pruned", "pruned_nf4", "mixed", "final", "merged"]
    final, uniform = rows["final"].divergence, rows["pruned_nf4"].divergence
    assert final is not None
    assert uniform is not None
    assert final < uniform / 2
    assert rows["dense"].bytes > rows["pruned"].bytes > rows["pruned_nf4"].bytes


def test_the_row_before_recovery_is_the_model_as_it_was_whatever_recovery_does(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished_run.output.with_name(finished_run.output.name + ".work"), work)
    finetune = finished_run.config.finetune.model_copy(update={"learning_rate": 0.02, "validation_sequences": 0})
    config = finished_run.config.model_copy(update={"finetune": finetune})
    report = compress(config, tmp_path / "out", work_dir=work)
    mixed, final = report.measurement("mixed"), report.measurement("final")
    assert mixed.perplexity == finished_run.report.measurement("mixed").perplexity != final.perplexity
    assert (mixed.bytes, mixed.parameters) == (final.bytes, final.parameters)


def test_every_trial_is_told_and_recorded(finished_run: FinishedRun) -> None:
    told = [event for event in finished_run.events if isinstance(event, TrialRecorded)]
    assert 3 <= len(told) <= 8
    assert {"knapsack", "random"} <= {trial.origin for trial in told}
    assert min(told, key=lambda trial: trial.loss).precisions == finished_run.report.precisions


def test_a_search_that_has_tried_what_the_scores_say_goes_by_expected_improvement(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    trials = search_again(finished_run, tmp_path / "out", trials=15).trials
    assert {"knapsack", "random", "bayesian"} <= {trial.origin for trial in trials}


def test_the_exported_files_are_the_ones_reported(finished_run: FinishedRun) -> None:
    assert checkpoint_hashes(finished_run.output) == {file.path: file.sha256 for file in finished_run.report.files}
    names = {path.name for path in finished_run.output.iterdir()}
    assert names == {"mixed", "merged", "README.md", "recipe.json", "report.json"}


def test_the_recipe_has_what_it_takes_to_run_again(finished_run: FinishedRun) -> None:
    recipe = json.loads((finished_run.output / "recipe.json").read_text())
    assert CompressionConfig.model_validate(recipe["config"]) == finished_run.config
    assert recipe["precisions"] == dict(zip(finished_run.report.groups, finished_run.report.precisions, strict=True))
    assert {name for names in finished_run.report.stored for name in names} == set(recipe["stored"].values())
    assert {"torch", "transformers", "bitsandbytes", "peft", "qpruner"} <= set(recipe["versions"])
    for file in recipe["files"]:
        assert file_sha256(finished_run.output / file["path"]) == file["sha256"]


def test_the_model_card_tells_the_measured_bytes(finished_run: FinishedRun) -> None:
    card = (finished_run.output / "mixed" / "README.md").read_text()
    assert f"| {finished_run.report.measurement('final').bytes} |" in card
    assert "load_compressed" in card


def test_the_model_card_has_a_head_that_hubs_read_and_names_no_folder(finished_run: FinishedRun) -> None:
    card = ModelCard.load(finished_run.output / "README.md")
    [result] = card.data.eval_results
    assert result.metric_value == pytest.approx(finished_run.report.measurements[-1].perplexity, abs=1e-4)
    assert card.data.library_name == "peft"
    assert str(Path(finished_run.config.model).parent) not in card.content


def test_no_text_that_is_evaluated_on_was_trained_on(finished_run: FinishedRun, tiny_llama: Path) -> None:
    from qpruner_core.data import prepare_data, read_dataset
    from qpruner_core.models import load_tokenizer
    from qpruner_core.source_policy import SourcePolicy

    tokenizer = load_tokenizer(tiny_llama)
    dataset = read_dataset(finished_run.config.dataset, SourcePolicy())
    data = prepare_data(
        dataset,
        tokenizer,
        sequence_length=64,
        calibration_sequences=4,
        held_out_tokens=finished_run.config.evaluate.max_tokens,
        max_choices=1,
        seed=0,
    )
    seen = "\n".join(tokenizer.decode(example.input_ids) for example in data.train)
    for window in data.held_out:
        middle = tokenizer.decode(window[16:48])
        assert middle not in seen


def test_another_seed_gives_another_model(finished_run: FinishedRun, tmp_path: Path) -> None:
    other, _ = recover_until(finished_run.config.model_copy(update={"seed": 1}), tmp_path / "other")
    name = "adapter/adapter_model.safetensors"
    ours = finished_run.output.with_name("out.work") / "finetune"
    assert file_sha256(other / name) != file_sha256(ours / name)


def test_a_run_cancelled_in_every_stage_goes_on_each_time_from_the_one_before_and_ends_the_same(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    """It shares nothing with the run that it is compared with, so the same config gives the same bytes."""
    for index, stage in enumerate(STAGES):
        # the run before was cancelled in the stage before this one
        assert cancel_within(stage, finished_run.config, tmp_path / "out") == STAGES[: max(index - 1, 0)]
        left = {path.name for path in (tmp_path / "out.work").iterdir()}
        assert left - {f"{stage}.progress", "fits", "known_trials.jsonl"} == set(STAGES[:index])
        assert not (tmp_path / "out").exists()

    events: list[Event] = []
    compress(finished_run.config, tmp_path / "out", on_event=events.append)
    assert resumed(events) == STAGES[:-1]
    assert checkpoint_hashes(tmp_path / "out") == checkpoint_hashes(finished_run.output)


def cancel_within(stage: StageName, config: CompressionConfig, output: Path) -> tuple[StageName, ...]:
    """Run ``config`` until ``stage`` tells how far it is; the stages that had been finished before that run."""
    cancel = CancelToken()
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, StageProgress) and event.stage == stage:
            cancel.cancel()

    with pytest.raises(CancelledError):
        compress(config, output, on_event=listen, cancel=cancel)
    return resumed(events)


def resumed(events: list[Event]) -> tuple[StageName, ...]:
    return tuple(event.stage for event in events if isinstance(event, StageFinished) and event.resumed)


def test_a_stage_whose_files_were_damaged_is_run_again(finished_run: FinishedRun, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished_run.output.with_name("out.work"), work)
    (work / "allocate" / "allocation.json").write_text("{}")
    events: list[Event] = []
    compress(finished_run.config, tmp_path / "out", work_dir=work, on_event=events.append)
    redone = [event.stage for event in events if isinstance(event, StageFinished) and not event.resumed]
    assert redone == ["allocate"]
    assert checkpoint_hashes(tmp_path / "out") == checkpoint_hashes(finished_run.output)


def test_another_budget_uses_the_pruned_model_and_the_scores_again_and_gives_the_bytes_of_a_fresh_run(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished_run.output.with_name("out.work"), work)
    events: list[Event] = []
    config = finished_run.config.model_copy(update={"memory_budget": 270_000})
    report = compress(config, tmp_path / "out", work_dir=work, on_event=events.append)
    resumed = [event.stage for event in events if isinstance(event, StageFinished) and event.resumed]
    assert resumed == ["prune", "score"]
    assert report.measurement("final").bytes <= 270_000
    compress(config, tmp_path / "fresh")
    assert checkpoint_hashes(tmp_path / "out") == checkpoint_hashes(tmp_path / "fresh")


def test_a_budget_that_cannot_be_met_fails_before_any_work_and_says_the_smallest_that_can(
    tiny_llama: Path, text_dataset: Path, finished_run: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(BudgetInfeasibleError) as caught:
        compress(quick_config(tiny_llama, text_dataset, memory_budget=1000), tmp_path / "out")
    assert caught.value.field == "memory_budget"
    assert not list(tmp_path.iterdir())
    smallest = caught.value.smallest_feasible_bytes
    assert str(smallest) in str(caught.value)
    config = quick_config(tiny_llama, text_dataset, memory_budget=smallest)
    report = compress(config, continued(finished_run, tmp_path / "out", "prune", "score", "fits"))
    assert report.measurement("final").bytes == smallest
    with pytest.raises(BudgetInfeasibleError):
        compress(quick_config(tiny_llama, text_dataset, memory_budget=smallest - 1), tmp_path / "less")


def test_a_model_that_memory_cannot_hold_is_refused_before_text_or_weights_are_read(
    tiny_llama: Path, text_dataset: Path, finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = bytes_in_16_bits(read_config(tiny_llama / "config.json"))
    assert total_memory(torch.device("cpu")) > dense
    monkeypatch.setattr(pipeline, "total_memory", lambda device: dense - 1)
    monkeypatch.setattr(pipeline, "read_dataset", None)
    with pytest.raises(MemoryTooSmallError) as caught:
        compress(quick_config(tiny_llama, text_dataset), tmp_path / "out")
    assert caught.value.field == "model"
    assert format_bytes(dense) in caught.value.message
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "total_memory", lambda device: dense - 1)
    elsewhere = continued(finished_run, tmp_path / "elsewhere", "fits", *STAGES)
    again = compress(finished_run.config, elsewhere)  # it was pruned on a larger machine
    assert again.precisions == finished_run.report.precisions


@pytest.mark.parametrize(
    ("changed", "helps", "no_help"),
    [
        ({"ratio": 0.1}, "larger prune.ratio", "protect"),
        ({"ratio": 0.0, "protect_first": 3, "protect_last": 3}, "prune.protect_first", "larger prune.ratio"),
        ({"ratio": None, "protect_first": 3, "protect_last": 3}, "prune.protect_first", "larger prune.ratio"),
    ],
)
def test_the_remedy_of_a_budget_that_cannot_be_met_is_one_that_helps(
    changed: dict[str, Any], helps: str, no_help: str, tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    prune = QUICK["prune"] | changed
    with pytest.raises(BudgetInfeasibleError) as caught:
        check(quick_config(tiny_llama, text_dataset, memory_budget=100_000, prune=prune))
    assert helps in caught.value.remedy
    assert no_help not in caught.value.remedy


@pytest.mark.parametrize(("target", "ships"), [("bitsandbytes", True), ("gguf", False)])
def test_a_smaller_rank_is_advised_only_where_adapters_count(
    target: str, ships: bool, tiny_llama: Path, text_dataset: Path
) -> None:
    with pytest.raises(BudgetInfeasibleError) as caught:
        check(quick_config(tiny_llama, text_dataset, target=target, memory_budget=50_000))
    assert ("quantize.lora_rank" in caught.value.remedy) is ships


def test_a_budget_above_the_models_size_is_refused(tiny_llama: Path, text_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetInvalidError) as caught:
        compress(quick_config(tiny_llama, text_dataset, memory_budget="1GB"), tmp_path / "out")
    assert caught.value.field == "memory_budget"
    assert "unchanged" in caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_ratio_is_found_from_the_budget(tiny_llama: Path, text_dataset: Path, tmp_path: Path) -> None:
    prune = {"protect_first": 1, "protect_last": 1, "width_multiple": 8, "calibration_sequences": 4}
    quick: dict[str, Any] = {"prune": prune, "finetune": {"steps": 0}}
    loose = compress(quick_config(tiny_llama, text_dataset, memory_budget=320_000, **quick), tmp_path / "loose")
    tight = compress(quick_config(tiny_llama, text_dataset, memory_budget=250_000, **quick), tmp_path / "tight")
    assert loose.prune_ratio == 0
    assert 0 < tight.prune_ratio <= 0.5
    assert tight.measurement("final").bytes <= 250_000


def test_a_dataset_too_short_fails_before_any_stage(tiny_llama: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Too little to learn from.\n")
    with pytest.raises(DatasetTooShortError) as caught:
        compress(quick_config(tiny_llama, short), tmp_path / "out")
    assert caught.value.field == "dataset"
    assert not (tmp_path / "out.work").exists()


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_stages_before(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    finetune = finished_run.config.finetune.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    continued(finished_run, tmp_path / "out", *BEFORE_RECOVERY)
    with pytest.raises(TrainingDivergedError) as caught:
        compress(finished_run.config.model_copy(update={"finetune": finetune}), tmp_path / "out")
    assert caught.value.field == "finetune.learning_rate"
    assert (tmp_path / "out.work" / "quantize" / "stage.json").exists()
    assert not (tmp_path / "out.work" / "finetune").exists()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    tiny_llama: Path, text_dataset: Path, finished_run: FinishedRun, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        with mount_small_disk(disk, 700_000):
            with pytest.raises(DiskFullError) as caught:
                compress(quick_config(tiny_llama, text_dataset), tmp_path / "out", work_dir=disk / "work")
            assert "space" in caught.value.message
            left = {path.name for path in (disk / "work").iterdir()}
            assert left < {*STAGES, "finetune.progress", "fits", "known_trials.jsonl"}
            assert not (tmp_path / "out").exists()
            shutil.copytree(disk / "work", tmp_path / "work")
    except NoSmallDiskError as error:
        pytest.skip(str(error))
    compress(finished_run.config, tmp_path / "out", work_dir=tmp_path / "work")
    assert checkpoint_hashes(tmp_path / "out") == checkpoint_hashes(finished_run.output)


def test_only_the_formats_asked_for_are_written(
    tiny_llama: Path, text_dataset: Path, finished_run: FinishedRun, tmp_path: Path
) -> None:
    config = quick_config(tiny_llama, text_dataset, export={"formats": ["merged"]}, finetune={"steps": 0})
    compress(config, continued(finished_run, tmp_path / "out", *BEFORE_RECOVERY))
    assert (tmp_path / "out" / "merged").is_dir()
    assert not (tmp_path / "out" / "mixed").exists()


def test_the_adapter_is_stored_in_16_bits(finished_run: FinishedRun) -> None:
    tensors = load_file(finished_run.output / "mixed" / "adapter" / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.bfloat16"}
    assert any(tensor.any() for name, tensor in tensors.items() if "lora_B" in name)


def test_sequences_longer_than_the_model_reads_are_refused(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        compress(quick_config(tiny_llama, text_dataset, sequence_length=1024), tmp_path / "out")
    assert caught.value.field == "sequence_length"
    assert not list(tmp_path.iterdir())


def test_what_an_earlier_run_wrote_is_replaced_and_what_its_user_put_there_is_refused_first(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    output, work = tmp_path / "out", tmp_path / "work"
    shutil.copytree(finished_run.output, output)
    shutil.copytree(finished_run.output.with_name("out.work"), work)
    export = ExportConfig(formats=("mixed",))
    compress(finished_run.config.model_copy(update={"export": export}), output, work_dir=work)
    assert not (output / "merged").exists()
    (output / "mixed" / "README.md").write_text("Words of mine.\n")
    events: list[Event] = []
    with pytest.raises(OutputInvalidError) as caught:
        compress(finished_run.config, output, work_dir=work, on_event=events.append)
    assert (caught.value.field, events) == ("output", [])
    (output / "mixed" / "README.md").unlink()
    compress(finished_run.config, output, work_dir=work)
    assert checkpoint_hashes(output) == checkpoint_hashes(finished_run.output)


def test_an_edit_of_a_file_that_was_handed_out_changes_no_finished_stage(finished_run: FinishedRun) -> None:
    files = [path for path in finished_run.output.rglob("*") if path.is_file()]
    shared = {path.suffix for path in files if path.stat().st_nlink > 1}
    assert shared <= {".safetensors"}  # which nobody edits in place
