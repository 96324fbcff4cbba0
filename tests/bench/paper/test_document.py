from __future__ import annotations

from pathlib import Path

import pytest

from bench.paper.claims import claims
from bench.paper.document import render
from bench.paper.plots import layer_bits
from bench.paper.reasons import reasons
from bench.paper.rows import PaperReport
from bench.paper.search_comparison import improvements
from bench.paper.tables import at_chance_table, results_table
from qpruner_core.precision_names import BITS_PER_WEIGHT
from tests.bench.paper.made_up_rows import memory, report, row, search


@pytest.fixture
def full() -> PaperReport:
    rows = [
        row("LLM-Pruner", size=1_000_000), row("QPruner3", size=600_000), row("QPruner3", seed=1, size=600_000),
        row("ours", size=590_000),
    ]  # fmt: skip
    return report(rows, [search("ours", [(1.0, 2.0, 30.0), (4.0, 1.0, 20.0)]), search("random", [(2.0, 3.0, 40.0)])])


def test_a_line_is_the_mean_over_seeds_with_the_error_of_its_perplexity(full: PaperReport) -> None:
    table = results_table(full.dense, full.rows, [], 0.2).splitlines()

    (line,) = [line for line in table if line.startswith("| QPruner3")]
    assert "| 2 |" in line
    assert "2.50 ±0.50" in line  # perplexities 2 and 3
    assert "600.0 kB" in line
    assert not any("BoolQ" in line for line in table)
    assert "BoolQ" in at_chance_table(full.dense, full.rows, 0.2)


def test_the_document_and_its_pictures_follow_from_the_json_alone(full: PaperReport, tmp_path: Path) -> None:
    document = tmp_path / "paper.md"
    first = render(full, document)
    pictures = {file.name: file.read_bytes() for file in tmp_path.glob("*.png")}
    again = PaperReport.model_validate_json(full.model_dump_json())

    assert render(again, document) == first
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.png")} == pictures
    assert set(pictures) == {f"paper_{name}.png" for name in ("front", "search", "precisions", "curves")}
    assert all(f"({name})" in first for name in pictures)


def test_a_layer_with_parts_of_different_bits_has_their_mean_by_weights() -> None:
    split = row("ours").model_copy(update={"layers": [0, 0, None]})  # 4 bytes of 4 bits, 8 bytes of 8: as many weights

    assert layer_bits(split) == pytest.approx([6.0], rel=0.02)  # NF4 has constants
    assert layer_bits(row("ours")) == [BITS_PER_WEIGHT["nf4"], 8.0]


def test_a_trial_that_was_stopped_early_is_never_the_best_so_far() -> None:
    trials = search("ours", [(1.0, 3.0, 0.0), (2.0, 1.0, 0.0), (3.0, 4.0, 0.0), (4.0, 2.0, 0.0)]).trials
    trials[1].stopped_early = True

    assert improvements(trials) == [0, 3]


def test_why_a_claim_on_memory_fails_is_told_by_what_is_beside_the_weights(full: PaperReport) -> None:
    peaks = [memory("LLM-Pruner", kept=2_000_000, recomputed=1_200_000)]
    peaks.append(memory("QPruner3", kept=1_590_000, recomputed=790_000))
    measured = full.model_copy(update={"memory": peaks})
    _, table, *others = reasons(measured, claims(measured))

    # 20.5 % less, and 34.2 % less, which is enough
    assert "| 20% | kept | 1.0 MB + 1.0 MB | – | 600.0 kB + 990.0 kB | – |" in table
    assert "| 20% | recomputed | 1.0 MB + 200.0 kB | – | 600.0 kB + 190.0 kB | – |" in table
    assert others == []  # its losses are the same
    assert reasons(full, claims(full)) == []


def test_why_perplexity_is_worse_is_told_where_it_is() -> None:
    worse = report([row("LLM-Pruner"), row("QPruner3", losses=(4.0, 5.0))])
    (paragraph,) = reasons(worse, claims(worse))
    assert paragraph.startswith("*Perplexity.*")
