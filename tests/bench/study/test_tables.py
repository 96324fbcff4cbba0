from __future__ import annotations

from bench.study.tables import markdown_table, measures_cell


def test_a_cell_says_accuracy_and_error_or_perplexity() -> None:
    assert measures_cell({}) == "–"
    assert measures_cell({"perplexity": 23.504}) == "23.50"
    assert measures_cell({"perplexity": 12345.6}) == "12,346"
    assert measures_cell({"acc": 0.295, "acc_stderr": 0.032, "perplexity": 69.1}) == ".295 ±.032 (69.10)"
    assert measures_cell({"acc": 1.0, "acc_stderr": 0.0, "acc_norm": 0.5}) == "1.000 / .500 ±.000"


def test_columns_of_words_are_aligned_left_and_figures_right() -> None:
    table = markdown_table(["model", "claim", "by"], [["a", "b", "1"]], words=2)

    assert table.splitlines() == ["| model | claim | by |", "|---|---|---:|", "| a | b | 1 |"]
