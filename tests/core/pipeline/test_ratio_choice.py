from __future__ import annotations

from pathlib import Path

import pytest

from qpruner_core import compress
from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.model_config import read_config
from qpruner_core.planning import make_plan
from qpruner_core.prune.ratio_choice import candidate_ratios
from tests.core.pipeline.conftest import FinishedRun, checkpoint_hashes, quick_config


def test_candidates_rise_from_the_smallest_that_fits_to_half_of_the_layers() -> None:
    assert candidate_ratios(0.0) == [0.0, 0.1, 0.2, 0.3]
    assert candidate_ratios(0.35) == [0.35, 0.45]
    assert candidate_ratios(0.5) == [0.5]
    assert candidate_ratios(0.62) == [0.62]


@pytest.fixture(scope="module")
def run(tiny_llama: Path, text_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A whole run whose ratio is measured."""
    prune = {"ratio_choice": "measured", "width_multiple": 1, "calibration_sequences": 4}
    config = quick_config(tiny_llama, text_dataset, prune=prune)
    output = tmp_path_factory.mktemp("measured") / "out"
    return FinishedRun(config, output, compress(config, output), [])


def test_the_ratio_that_leaves_the_predictions_nearest_to_the_dense_model_is_taken(
    run: FinishedRun, tmp_path: Path
) -> None:
    """All of them fit the budget, the run has the one chosen, and doing it again gives the same bytes."""
    config, report = run.config, run.report
    assert report.pruning is not None
    trials = report.pruning.ratio_trials
    assert len(trials) >= 2
    assert all(trial.bytes <= config.memory_budget and trial.loss >= 0 for trial in trials)
    assert [trial.ratio for trial in trials] == sorted(trial.ratio for trial in trials)
    best = min(trials, key=lambda trial: trial.loss)
    assert report.prune_ratio == report.pruning.ratio == best.ratio
    assert report.measurement("final").bytes <= config.memory_budget
    assert all(f"{trial.ratio:.1%} ({trial.loss:.4f})" in report.pruning.ratio_reason for trial in trials)
    assert report.pruning.ratio_reason in (run.output / "mixed" / "README.md").read_text(encoding="utf-8")
    compress(config, tmp_path / "again")
    assert checkpoint_hashes(tmp_path / "again") == checkpoint_hashes(run.output)


def test_what_is_pruned_more_has_more_bits_within_the_same_bytes(run: FinishedRun) -> None:
    assert run.report.pruning is not None
    trials = run.report.pruning.ratio_trials
    assert [trial.bits for trial in trials] == sorted(trial.bits for trial in trials)


def test_a_ratio_that_is_given_is_not_chosen(tiny_llama: Path, text_dataset: Path) -> None:
    dense = read_config(tiny_llama / "config.json")
    given = quick_config(tiny_llama, text_dataset, prune={"ratio": 0.05, "ratio_choice": "measured"})
    assert make_plan(given, dense).shape is not None
    free = quick_config(tiny_llama, text_dataset, prune={"ratio_choice": "measured"})
    assert make_plan(free, dense).shape is None
    with pytest.raises(InvalidConfigError, match="ratio_choice"):
        quick_config(tiny_llama, text_dataset, prune={"ratio_choice": "guess"})
