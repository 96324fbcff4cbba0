"""The benchmark's pictures, drawn from its raw figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.paper.methods import METHODS
from bench.paper.rows import PaperReport, PaperRow, SearchRow, of_method
from bench.study.plots import label, legend_above, panels, plain_ticks
from qpruner_core.precision_names import BITS_PER_WEIGHT

_NAMED = ("black", "tab:brown", "tab:purple", "tab:blue", "tab:red", "tab:orange", "tab:green")
_COLOURS = dict(zip((method.name for method in METHODS), _NAMED, strict=True))
FRONT, SEARCH, PRECISIONS, CURVES = "front", "search", "precisions", "curves"


def draw(report: PaperReport, document: Path) -> dict[str, Path]:
    """Draw all pictures beside ``document``; their files by what they show. Searches are left out if there are none."""
    files = {name: document.with_name(f"{document.stem}_{name}.png") for name in (FRONT, SEARCH, PRECISIONS, CURVES)}
    _front(report, files[FRONT])
    _precisions(report, files[PRECISIONS])
    _curves(report, files[CURVES])
    if report.searches:
        _search(report.searches, files[SEARCH])
    else:
        del files[SEARCH]
    return files


def _size(columns: int) -> tuple[float, float]:
    return 4.6 * columns + 1, 4.2


def _front(report: PaperReport, path: Path) -> None:
    """Bytes against perplexity of the first seed, a panel a text; a point a method and ratio."""
    texts = list(report.dense.window_losses)
    with panels(path, 1, len(texts), _size(len(texts))) as (row_of_panels,):
        for axes, text in zip(row_of_panels, texts, strict=True):
            for method, colour in _COLOURS.items():
                points = sorted(
                    (row.bytes / 1e6, row.measures[text]["perplexity"])
                    for row in report.rows
                    if (row.method, row.seed) == (method, 0)
                )
                if points:
                    axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=method, color=colour)
            dense = report.dense
            axes.plot(dense.bytes / 1e6, dense.measures[text]["perplexity"], "k*", markersize=9, label="dense")
            axes.set_yscale("log")
            plain_ticks(axes.yaxis)
            label(axes, "loaded model, MB", f"perplexity on {text}, after recovery")
        legend_above(row_of_panels[0])


def _search(searches: Sequence[SearchRow], path: Path) -> None:
    """Loss and perplexity of the best so far against seconds; the loss of those searches that share an objective."""
    shared = searches[0].objective
    with panels(path, 1, 2, _size(2)) as ((left, right),):
        for number, row in enumerate(searches):
            colour = f"C{number}"
            seconds = [row.trials[index].second for index, _ in row.best]
            _steps(right, seconds, [perplexity for _, perplexity in row.best], row, colour)
            if row.objective == shared:
                _steps(left, seconds, [row.trials[index].loss for index, _ in row.best], row, colour)
        left.set_yscale("log")
        plain_ticks(left.yaxis)
        named = ("best divergence so far, nats a token", "perplexity of the best so far, before recovery")
        for axes, name in zip((left, right), named, strict=True):
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
            label(axes, "seconds of search, scoring included", name)
        legend_above(right)


def _steps(axes: Any, seconds: Sequence[float], values: Sequence[float], row: SearchRow, colour: str) -> None:
    """What is best stays so until something better is found, or the search is over."""
    until = max(row.seconds, seconds[-1])
    axes.step([*seconds, until], [*values, values[-1]], where="post", label=row.name, color=colour)
    axes.plot(seconds, values, "o", markersize=4, color=colour)


def _precisions(report: PaperReport, path: Path) -> None:
    """Bits of every layer, a line a method, a panel a ratio."""
    from matplotlib.colors import BoundaryNorm

    ratios = report.amounts.ratios
    with panels(path, 1, len(ratios), _size(len(ratios))) as (row_of_panels,):
        for axes, ratio in zip(row_of_panels, ratios, strict=True):
            rows = [of_method(report.rows, method.name, ratio)[:1] for method in METHODS]
            drawn = [row for found in rows for row in found]
            if not drawn:
                continue
            norm = BoundaryNorm([2, 6, 12, 18], 256)
            axes.imshow([layer_bits(row) for row in drawn], aspect="auto", cmap="viridis", norm=norm)
            axes.set_yticks(range(len(drawn)), [row.method for row in drawn], fontsize=7)
            axes.set_xlabel("layer")
            axes.set_title(f"{ratio:.0%}: 4 bits dark, 8 green, 16 yellow", fontsize=9)


def layer_bits(row: PaperRow) -> list[float]:
    """The bits of each layer; where its parts differ, the mean over their bytes' worth of weights."""
    weights: dict[int, list[tuple[float, float]]] = {}
    for layer, size, precision in zip(row.layers, row.group_bytes, row.precisions, strict=True):
        if layer is not None:
            bits = BITS_PER_WEIGHT[precision]
            weights.setdefault(layer, []).append((size / bits, bits))
    return [
        sum(count * bits for count, bits in parts) / sum(count for count, _ in parts)
        for _, parts in sorted(weights.items())
    ]


def _curves(report: PaperReport, path: Path) -> None:
    """Held-back loss of the first seed in recovery against steps, a panel a ratio: seeds keep other text back."""
    ratios = report.amounts.ratios
    with panels(path, 1, len(ratios), _size(len(ratios))) as (row_of_panels,):
        for axes, ratio in zip(row_of_panels, ratios, strict=True):
            for method, colour in _COLOURS.items():
                first = next((row for row in of_method(report.rows, method, ratio) if row.seed == 0), None)
                if first is not None and first.validation:
                    points = zip(*first.validation, strict=True)
                    axes.plot(*points, marker="o", markersize=3, label=method, color=colour)
            label(axes, "step of recovery", "held-back loss, nats a token", f"{ratio:.0%} pruned")
        legend_above(row_of_panels[0])
