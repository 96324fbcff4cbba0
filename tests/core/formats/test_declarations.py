"""What is declared of formats, and that it is all that whoever names them needs."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpruner_core.config import CompressionConfig
from qpruner_core.errors import InvalidConfigError
from qpruner_core.export.config import CARD, RECIPE, ExportConfig
from qpruner_core.formats.declarations import FORMATS, FormatDeclaration, in_order, label_of, of_artifact, offered_by
from qpruner_core.formats.registry import load_format
from qpruner_core.output_directory import REPORT
from qpruner_core.report import Measurement

NAMES = [one.name for one in FORMATS]


def test_declarations_need_no_torch() -> None:
    script = "import sys, qpruner_core.formats.declarations, worker.artifacts; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_declared_format_has_its_file() -> None:
    for one in FORMATS:
        assert load_format(one.name).declaration is one


def test_no_two_formats_share_a_place_an_artifact_or_a_row_for_any_target() -> None:
    targets = {"", *chain.from_iterable(one.targets for one in FORMATS)}
    for target in targets:
        offered = offered_by(target)
        assert len({one.variant for one in offered}) == len(offered)
    assert len({one.place for one in FORMATS} | {CARD, RECIPE, REPORT}) == len(FORMATS) + 3
    assert len({one.artifact for one in FORMATS}) == len(FORMATS)


def test_a_format_of_one_file_is_handed_out_as_it_is() -> None:
    gguf = FormatDeclaration("gguf", "for llama.cpp", "final", "final", path="model.gguf", suffix=".gguf")
    assert (gguf.place, gguf.artifact, gguf.artifact_format, gguf.is_directory) == (
        "model.gguf", "model.gguf", "gguf", False,
    )  # fmt: skip


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=9))
def test_formats_are_taken_once_each_in_the_order_in_which_they_are_shown(names: list[str]) -> None:
    ordered = ExportConfig(formats=tuple(names)).formats
    assert ordered == in_order(names)
    assert set(ordered) == set(names)
    assert list(ordered) in [list(some) for size in range(len(NAMES) + 1) for some in combinations(NAMES, size)]


@pytest.mark.parametrize("formats", [["onnx"], ["mixed", "Mixed"]])
def test_a_format_that_there_is_not_is_refused_with_those_that_there_are(formats: list[str]) -> None:
    from qpruner_core.config import parse_config

    values = {"model": "m", "dataset": "d", "memory_budget": 1, "export": {"formats": formats}}
    with pytest.raises(InvalidConfigError, match='"merged_quantized"') as caught:
        parse_config(values)
    assert caught.value.field == "export.formats"


def test_the_schema_names_the_formats() -> None:
    schema = CompressionConfig.model_json_schema()["$defs"]["ExportConfig"]["properties"]["formats"]
    assert schema["items"]["enum"] == NAMES


def test_an_artifact_is_found_by_its_name() -> None:
    assert [of_artifact(one.artifact) for one in FORMATS] == list(FORMATS)
    assert of_artifact(RECIPE) is None


def test_rows_of_older_reports_get_the_labels_of_today() -> None:
    row = {"variant": "merged_quantized", "parameters": 1, "bytes": 2, "perplexity": 3.0, "tokens_per_second": 4.0}
    measured = Measurement.model_validate(row)
    assert (measured.label, measured.divergence) == (label_of("merged_quantized"), None)
    assert Measurement.model_validate(row | {"variant": "of_tomorrow"}).label == "of_tomorrow"
    assert Measurement.model_validate(row | {"label": "mine"}).label == "mine"
