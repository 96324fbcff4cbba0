"""What was measured is found again, exactly, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import CompressionConfig
from qpruner_core.search.known_trials import KNOWN_TRIALS, SEARCH_ONLY, KnownTrial, KnownTrials, trial_key

CONFIG = CompressionConfig(model="m", dataset="d", memory_budget=1000)


def test_a_loss_comes_back_bit_for_bit_and_only_under_its_key(tmp_path: Path) -> None:
    path = tmp_path / KNOWN_TRIALS
    known = KnownTrials(path, "a")
    assert known.find(["nf4", "int8"]) is None
    known.remember(("nf4", "int8"), 0.1 + 0.2, 1 / 3)
    known.remember(("nf4", "int8"), 9.0)
    known.remember(("bf16", "bf16"), float("inf"))
    assert known.find(["nf4", "int8"]) == KnownTrial(
        key="a", precisions=("nf4", "int8"), loss=0.1 + 0.2, screening_loss=1 / 3
    )
    again = KnownTrials(path, "a")
    assert again.find(("nf4", "int8")) == known.find(("nf4", "int8"))
    assert (again.find(("bf16", "bf16")), len(again)) == (None, 1)
    assert KnownTrials(path, "b").find(("nf4", "int8")) is None


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / KNOWN_TRIALS
    KnownTrials(path, "a").remember(("nf4", "nf4"), 1.0)
    KnownTrials(path, "a").remember(("int8", "int8"), 2.0)
    path.write_bytes(path.read_bytes()[:-cut])
    known = KnownTrials(path, "a")
    known.remember(("bf16", "bf16"), 3.0)
    again = KnownTrials(path, "a")
    found = [again.find([each, each]) is not None for each in ("nf4", "int8", "bf16")]
    assert found == [True, cut == 1, True]


def changed(**settings: object) -> CompressionConfig:
    return CONFIG.model_copy(update={"allocate": CONFIG.allocate.model_copy(update=settings)})


def test_the_key_forgets_the_budget_and_how_is_searched_and_nothing_of_how_is_measured() -> None:
    key = trial_key("scores", CONFIG)
    assert trial_key("scores", CONFIG.model_copy(update={"memory_budget": 5})) == key
    assert trial_key("scores", changed(trials=7, random_seeds=1, candidates=3, finalists=4)) == key
    assert trial_key("other scores", CONFIG) != key
    for name in AllocateConfig.model_fields.keys() - SEARCH_ONLY:
        assert trial_key("scores", changed(**{name: "another"})) != key, name
    quantize = CONFIG.quantize.model_copy(update={"double_quant": not CONFIG.quantize.double_quant})
    assert trial_key("scores", CONFIG.model_copy(update={"quantize": quantize})) != key
