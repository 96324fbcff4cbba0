"""What release 0.1 wrote with bits is read as the names that they stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qpruner_core.config import CompressionConfig
from qpruner_core.loading import load_compressed
from qpruner_core.mixed.mixed_model import MixedPrecision
from qpruner_core.precision_names import precision_name, precision_names
from qpruner_core.report import CompressionReport
from qpruner_core.search.allocation import AllocationResult
from qpruner_core.search.scores import Scores
from qpruner_core.search.stored_search import StoredSearch
from qpruner_core.search.trial import MeasuredTrial
from tests.model_in_memory import compress_in_memory

RUN = {"model": "m", "dataset": "d", "target": "bitsandbytes", "memory_budget": 1000}
BITS = {"nf4": 4, "int8": 8, "bf16": 16}
TRIAL: dict[str, Any] = {
    "index": 0, "origin": "random", "bits": [4, 16], "bytes": 150, "loss": 0.45, "screening_loss": 0.45,
}  # fmt: skip
SCORES = {
    "groups": ["layers.0", "layers.1"], "mutual_information": [1.0, 2.0],
    "sensitivity": [{"4": 0.5, "8": 0.1, "16": 0.0}, {"4": 0.1, "8": 0.05, "16": 0.0}],
}  # fmt: skip
SPACE = {
    "groups": ["layers.0", "layers.1"], "layers": [0, 1],
    "group_bytes": [{"4": 10, "8": 20, "16": 40}, {"4": 10, "8": 20, "16": 40}], "fixed_bytes": 100,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "model": "m", "revision": None, "dataset": "d", "memory_budget": 1000, "seed": 0, "prune_ratio": 0.2,
    "groups": ["layers.0.attention", "embeddings"], "bits": [4, 8], "widths": [], "predicted_bytes": 990,
    "measurements": [], "stage_seconds": {"prune": 1.5}, "warnings": [], "files": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "name"), [(4, "nf4"), (8, "int8"), (16, "bf16"), ("4", "nf4"), ("16", "bf16"), ("nf4", "nf4")]
)
def test_bits_stand_for_the_names_of_the_precisions_that_there_were(old: object, name: str) -> None:
    assert precision_name(old) == name


@given(st.integers() | st.booleans() | st.floats() | st.none() | st.text())
def test_what_stands_for_no_precision_is_left_for_validation_to_refuse(value: object) -> None:
    found = precision_name(value)
    assert found is value or found in BITS


@given(st.lists(st.lists(st.sampled_from(["nf4", "int8", "bf16"]))))
def test_names_of_any_depth_are_those_of_their_bits(names: list[list[str]]) -> None:
    assert precision_names([[BITS[name] for name in row] for row in names]) == names
    assert precision_names(names) == names


def test_a_report_with_bits_keeps_its_groups_and_is_written_with_names() -> None:
    report = CompressionReport.model_validate(REPORT)
    assert (report.groups, report.precisions) == (["layers.0.attention", "embeddings"], ["nf4", "int8"])
    written = json.loads(report.model_dump_json())
    assert written["precisions"] == ["nf4", "int8"]
    assert "bits" not in written
    assert CompressionReport.model_validate(written) == report


def test_an_allocation_with_bits_is_read() -> None:
    trial = TRIAL | {"sequences": 8, "seconds": 1.0}
    old = {"groups": SPACE["groups"], "best": trial, "trials": [trial], "pareto_front": [trial]}
    result = AllocationResult.model_validate_json(json.dumps(old))
    assert result.best.precisions == result.trials[0].precisions == ("nf4", "bf16")
    assert AllocationResult.model_validate_json(result.model_dump_json()) == result


def test_scores_by_bits_are_read() -> None:
    scores = Scores.model_validate_json(json.dumps(SCORES))
    assert scores.sensitivity[0] == {"nf4": 0.5, "int8": 0.1, "bf16": 0.0}
    assert scores.additive_loss(("nf4", "int8")) == 0.55


def test_a_search_stored_with_bits_answers_another_budget() -> None:
    trials = [MeasuredTrial.model_validate(TRIAL)]
    search = StoredSearch.of_summaries(SCORES, {"trials": 1, "space": SPACE}, trials)
    known = search.answer(150)
    assert (known.precisions, known.measured) == (["bf16", "nf4"], False)
    assert [trial.precisions for trial in search.front()] == [("nf4", "bf16")]
    assert StoredSearch.model_validate_json(search.model_dump_json()) == search


@pytest.mark.parametrize("precisions", [[4, 8], ["4", "8"], [8, "nf4"], ["int8", "nf4"]])
def test_a_config_that_names_bits_is_the_one_that_names_precisions(precisions: list[Any]) -> None:
    config = CompressionConfig.model_validate(RUN | {"allocate": {"precisions": precisions}})
    assert config.allocate.precisions == ("nf4", "int8")
    assert config == CompressionConfig.model_validate_json(config.model_dump_json())


def test_bits_that_no_precision_had_are_refused() -> None:
    with pytest.raises(ValueError, match=r"precisions"):
        CompressionConfig.model_validate(RUN | {"allocate": {"precisions": [5]}})


def test_a_checkpoint_whose_config_has_bits_loads_as_it_did(tiny_llama: Path, tmp_path: Path) -> None:
    compress_in_memory(tiny_llama, tmp_path / "mixed")
    expected, _ = load_compressed(tmp_path / "mixed")
    place = tmp_path / "mixed" / "config.json"
    config = json.loads(place.read_text())
    stored = config["quantization_config"]
    stored["bits"] = {name: BITS[precision] for name, precision in stored.pop("precisions").items()}
    place.write_text(json.dumps(config))
    found, _ = load_compressed(tmp_path / "mixed")
    ids = torch.arange(3, 35).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(found(ids).logits, expected(ids).logits)


def test_a_precision_that_this_release_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="'nf5' is not a precision of this release"):
        MixedPrecision.model_validate({"precisions": {"a": "nf5"}, "double_quant": True})
