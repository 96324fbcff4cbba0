"""The benchmark's pictures, drawn from its raw figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.frontier.cells import LLAMA, OURS
from bench.frontier.rows import Figures, FrontierReport, FrontierRow

_KNOWN = {OURS: "tab:red", f"{OURS}, compressed-tensors": "tab:orange", LLAMA: "black"}
_PRUNED = f"{OURS}, "
KL, PERPLEXITY, PRUNING = "kl", "perplexity", "pruning"


def draw(report: FrontierReport, document: Path) -> dict[str, Path]:
    """Draw all pictures beside ``document``; their files by what they show."""
    files = {name: document.with_name(f"{document.stem}_{name}.png") for name in (KL, PERPLEXITY, PRUNING)}
    document.parent.mkdir(parents=True, exist_ok=True)
    unpruned = [row for row in report.rows if not _is_pruning(row)]
    _panels(report, unpruned, files[KL], "KL to the dense model, nats per token", lambda one: one.divergence)
    _panels(report, unpruned, files[PERPLEXITY], "perplexity", lambda one: one.perplexity)
    pruning = [row for row in report.rows if _is_pruning(row)]
    if not pruning:
        del files[PRUNING]
        return files
    reference = [row for row in unpruned if row.group in (OURS, LLAMA)]
    most = 1.1 * max((row.bytes for row in pruning), default=0)
    near = [row for row in reference if row.bytes <= most and row.model in {one.model for one in pruning}]
    _panels(report, pruning + near, files[PRUNING], "KL to the dense model, nats per token", lambda one: one.divergence)
    return files


def _is_pruning(row: FrontierRow) -> bool:
    return row.group.startswith(_PRUNED) and "pruned" in row.group


def _panels(
    report: FrontierReport, rows: Sequence[FrontierRow], path: Path, label: str, value: Callable[[Figures], float]
) -> None:
    """Bytes against ``value``, a row of panels a model, a panel a text, a line a group."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    measured = [row for row in rows if not row.failure and row.texts and row.group != "dense"]
    models = [model for model in report.amounts.models if any(row.model == model for row in measured)]
    texts = sorted({text for row in measured for text in row.texts})
    groups = list(dict.fromkeys(row.group for row in measured))
    colours = plt.get_cmap("tab10")
    figure, axes = plt.subplots(
        max(len(models), 1), max(len(texts), 1), figsize=(6.2 * max(len(texts), 1), 4.4 * max(len(models), 1) + 0.8),
        dpi=90, squeeze=False, layout="constrained",
    )  # fmt: skip
    handles: dict[str, Any] = {}
    for line, model in zip(axes, models, strict=False):
        for panel, text in zip(line, texts, strict=False):
            for number, group in enumerate(groups):
                points = sorted(
                    (row.bytes / 1e6, value(row.texts[text]))
                    for row in measured
                    if row.group == group and row.model == model and text in row.texts
                )
                if points:
                    style = {"linewidth": 2.2, "zorder": 3} if group in _KNOWN else {"linewidth": 1.0}
                    (handles[group],) = panel.plot(
                        *zip(*points, strict=True), marker="o", markersize=4,
                        color=_KNOWN.get(group, colours(number % colours.N)), **style,
                    )  # fmt: skip
            panel.set_yscale("log")
            panel.set_xlabel("tensors, MB")
            panel.set_ylabel(label)
            panel.set_title(f"{model}, {text}", fontsize=10)
            panel.grid(alpha=0.3, which="both")
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper center", ncols=4, fontsize=8, frameon=False
        )
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
