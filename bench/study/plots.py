"""Pictures of a page: small PNG files, the same bytes from the same figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def panels(path: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[list[list[Any]]]:
    """Axes by row and column; what is drawn on them is written to ``path``. ``size``: of the picture, in inches."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(rows, columns, figsize=size, dpi=90, squeeze=False, layout="constrained")
    yield [list(row) for row in axes]
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def legend_above(axes: Any, handles: dict[str, Any] | None = None) -> None:
    """Name the lines of ``axes``, or ``handles`` by name, above all of the figure's panels, where they hide none."""
    if handles is None:
        lines, names = axes.get_legend_handles_labels()
    else:
        lines, names = list(handles.values()), list(handles)
    axes.figure.legend(lines, names, loc="outside upper center", ncols=4, fontsize=8, frameon=False)


def label(axes: Any, x: str, y: str, title: str = "", *, title_size: int = 9) -> None:
    """Name both axes of a panel, and the panel, and draw a grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title, fontsize=title_size)
    axes.grid(alpha=0.3, which="both")


def plain_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
