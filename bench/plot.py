"""The pruning benchmark as a picture: perplexity against parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.rows import Row


def plot_perplexity(rows: Sequence[Row], text: str, highlighted: Sequence[str], path: Path) -> None:
    """Draw the perplexity of ``text`` against the parameters of the whole model, one line a recipe, as a small PNG.

    Recipes in ``highlighted`` are drawn thick; the dense model is a point that all lines start from.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 5.5), dpi=90)
    dense = next(row for row in rows if row.settings is None)
    names = list(dict.fromkeys(row.recipe for row in rows if row.settings is not None))
    colours = plt.get_cmap("tab20")
    strong = dict(zip(highlighted, ("tab:red", "black"), strict=False))
    for number, name in enumerate(names):
        own = sorted((row for row in rows if row.recipe == name), key=lambda row: -row.parameters)
        points = [(row.parameters / 1e6, row.measures[text]["perplexity"]) for row in (dense, *own)]
        thick = name in highlighted
        axes.plot(
            *zip(*points, strict=True), marker="o", markersize=4, label=name,
            color=strong.get(name, colours(number % colours.N)),
            linewidth=2.6 if thick else 1.0, alpha=1.0 if thick else 0.7, zorder=3 if thick else 2,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("parameters of the whole model (millions)")
    axes.set_ylabel(f"perplexity on {text}, before any recovery")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
