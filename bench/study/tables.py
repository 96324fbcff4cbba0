"""Tables of a page, in markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

NOT_MEASURED = "not measured"
_VERDICTS = {True: "yes", False: "**no**", None: NOT_MEASURED}


class Judged(Protocol):
    """A claim: whether it ``holds`` (``None``: a row is missing), and by how much, in words."""

    @property
    def holds(self) -> bool | None: ...

    @property
    def found(self) -> str: ...


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A table, its first ``words`` columns aligned left and the others right."""
    rule = "|" + "---|" * words + "---:|" * (len(header) - words)
    return "\n".join([_line(header), rule, *map(_line, lines)])


def verdict(claim: Judged) -> list[str]:
    """The last two cells of a claim's line."""
    return [_VERDICTS[claim.holds], claim.found]


def measures_cell(measures: Mapping[str, float]) -> str:
    """The measures of one text or task in a few characters; a dash where there are none."""
    if not measures:
        return "–"
    if "acc_norm" in measures:
        return f"{_share(measures['acc'])} / {_share(measures['acc_norm'])} ±{_share(measures['acc_stderr'])}"
    perplexity = _perplexity(measures["perplexity"])
    if "acc" in measures:
        return f"{_share(measures['acc'])} ±{_share(measures['acc_stderr'])} ({perplexity})"
    return perplexity


def signed(text: str) -> str:
    """``text`` with minus signs in place of hyphens."""
    return text.replace("-", "−")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _perplexity(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else f"{value:.1e}"
