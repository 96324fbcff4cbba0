"""The benchmark's pictures, drawn from its raw figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.frontier.cells import LLAMA, OURS
from bench.frontier.rows import Figures, FrontierReport, FrontierRow
from bench.study.plots import label, legend_above, panels

_KNOWN = {OURS: "tab:red", f"{OURS}, compressed-tensors": "tab:orange", LLAMA: "black"}
_OTHERS = [f"C{number}" for number in (0, 2, 4, 5, 6, 7, 8, 9)]
_PRUNED = f"{OURS}, "
_DIVERGENCE = "KL to the dense model, nats per token"
KL, PERPLEXITY, PRUNING = "kl", "perplexity", "pruning"


def draw(report: FrontierReport, document: Path) -> dict[str, Path]:
    """Draw all pictures beside ``document``; their files by what they show."""
    files = {name: document.with_name(f"{document.stem}_{name}.png") for name in (KL, PERPLEXITY, PRUNING)}
    unpruned = [row for row in report.rows if not _is_pruning(row)]
    _panels(report, unpruned, files[KL], _DIVERGENCE, lambda one: one.divergence)
    _panels(report, unpruned, files[PERPLEXITY], "perplexity", lambda one: one.perplexity)
    pruning = [row for row in report.rows if _is_pruning(row)]
    if not pruning:
        del files[PRUNING]
        return files
    reference = [row for row in unpruned if row.group in (OURS, LLAMA)]
    most = 1.3 * max((row.bytes for row in pruning), default=0)
    near = [row for row in reference if row.bytes <= most and row.model in {one.model for one in pruning}]
    _panels(report, pruning + near, files[PRUNING], _DIVERGENCE, lambda one: one.divergence)
    return files


def _is_pruning(row: FrontierRow) -> bool:
    return row.group.startswith(_PRUNED) and "pruned" in row.group


def _panels(
    report: FrontierReport, rows: Sequence[FrontierRow], path: Path, named: str, value: Callable[[Figures], float]
) -> None:
    """Bytes against ``value``, a row of panels a model, a panel a text, a line a group."""
    measured = [row for row in rows if not row.failure and row.texts and row.group != "dense"]
    models = [model for model in report.amounts.models if any(row.model == model for row in measured)]
    texts = sorted({text for row in measured for text in row.texts})
    groups = list(dict.fromkeys(row.group for row in measured))
    down, across = max(len(models), 1), max(len(texts), 1)
    handles: dict[str, Any] = {}
    with panels(path, down, across, (6.2 * across, 4.4 * down + 0.8)) as axes:
        for line, model in zip(axes, models, strict=False):
            for panel, text in zip(line, texts, strict=False):
                there = [row for row in measured if row.model == model and text in row.texts]
                for number, group in enumerate(groups):
                    points = sorted((row.bytes / 1e6, value(row.texts[text])) for row in there if row.group == group)
                    if points:
                        handles[group] = _line(panel, points, group, number)
                panel.set_yscale("log")
                _widen(panel)
                label(panel, "tensors, MB", named, f"{model}, {text}", title_size=10)
        if handles:
            legend_above(axes[0][0], handles)


def _widen(panel: Any) -> None:
    """Show a tenth of the bytes at least, where all are nearly the same."""
    low, high = panel.get_xlim()
    middle = (low + high) / 2
    if high - low < 0.1 * middle:
        panel.set_xlim(0.95 * middle, 1.05 * middle)


def _line(panel: Any, points: Sequence[tuple[float, float]], group: str, number: int) -> Any:
    """Draw ``points``; ours and ``llama-quantize`` stand out."""
    style = {"linewidth": 2.2, "zorder": 3} if group in _KNOWN else {"linewidth": 1.0}
    colour = _KNOWN.get(group, _OTHERS[number % len(_OTHERS)])
    (found,) = panel.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, **style)
    return found
