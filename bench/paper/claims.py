"""What the benchmark must show, worked out from its rows: a claim holds, does not, or cannot be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from bench.paper.measured import JUDGED
from bench.paper.methods import LLM_PRUNER, OURS, OURS_FREE, OURS_FROM_TEXT, QPRUNER3
from bench.paper.rows import PaperReport, PaperRow, SearchRow, memory_of, of_method
from bench.paper.search_comparison import SEARCH_OURS, SEARCH_PAPER

LESS_MEMORY = 0.3
FASTER_SEARCH = 0.1


@dataclass(frozen=True)
class Claim:
    """``holds`` is ``None`` where the rows do not say; ``found``: by how much, in words."""

    what: str
    where: str
    holds: bool | None
    found: str


@dataclass(frozen=True)
class Difference:
    """A difference and its standard error."""

    mean: float
    error: float

    @property
    def is_no_worse(self) -> bool:
        """Whether it is not above zero by more than its standard error; positive is worse."""
        return self.mean <= self.error


def loss_difference(rows: Sequence[PaperRow], others: Sequence[PaperRow], text: str) -> Difference | None:
    """By how much the loss of ``rows`` on ``text`` is above that of ``others``, in nats a token.

    Only seeds that both have are compared, each with the same: from one split of the data, both may be worse. The
    standard error has two parts, of these paired differences over windows of text and over seeds, where there are
    several. ``None``: they have no seed in common.
    """
    by_seed = [
        [own - other for own, other in zip(row.window_losses[text], its.window_losses[text], strict=True)]
        for row in rows
        for its in others
        if its.seed == row.seed
    ]
    if not by_seed:
        return None
    over_seeds = [fmean(differences) for differences in zip(*by_seed, strict=True)]
    return Difference(fmean(over_seeds), math.hypot(_error(over_seeds), _error([fmean(one) for one in by_seed])))


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean; 0 of a single value, which tells nothing of it."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def mean_accuracy(rows: Sequence[PaperRow]) -> tuple[float, float] | None:
    """Mean over the judged tasks and over seeds, and its standard error over examples; ``None`` without tasks."""
    tasks = [(name, measure) for name, measure in JUDGED.items() if name in rows[0].measures]
    if not tasks:
        return None
    shares = [fmean(row.measures[name][measure] for row in rows) for name, measure in tasks]
    errors = [fmean(row.measures[name][f"{measure}_stderr"] for row in rows) for name, measure in tasks]
    return fmean(shares), math.hypot(*errors) / len(tasks)


def accuracy_loss(rows: Sequence[PaperRow], others: Sequence[PaperRow]) -> Difference | None:
    """By how much the mean accuracy of ``rows`` is below that of ``others``; its error takes them as independent."""
    ours, theirs = mean_accuracy(rows), mean_accuracy(others)
    if ours is None or theirs is None:
        return None
    return Difference(theirs[0] - ours[0], math.hypot(ours[1], theirs[1]))


def claims(report: PaperReport) -> list[Claim]:
    """All of them, in order."""
    found: list[Claim] = []
    for ratio in report.amounts.ratios:
        for method in (QPRUNER3, OURS, OURS_FROM_TEXT):
            found += _memory_claims(report, method.name, ratio)
    for ratio in report.amounts.ratios:
        for method in (OURS, OURS_FROM_TEXT, OURS_FREE):
            found += _against_paper(report, method.name, ratio)
    return found + _search_claims(report.searches)


def _memory_claims(report: PaperReport, method: str, ratio: float) -> list[Claim]:
    rows, baseline = of_method(report.rows, method, ratio), of_method(report.rows, LLM_PRUNER.name, ratio)
    if not rows or not baseline:
        return []
    where = f"{ratio:.0%}"
    loaded = 1 - fmean(row.bytes for row in rows) / baseline[0].bytes
    found = [_less(f"{method}: loaded, {LESS_MEMORY:.0%} less memory than LLM-Pruner", where, loaded)]
    ours, theirs = (memory_of(report.memory, name, ratio) for name in (method, LLM_PRUNER.name))
    for how in ("kept", "recomputed"):
        saving = None
        if ours is not None and theirs is not None and getattr(theirs, how).resident > 0:  # a tiny model takes none
            saving = 1 - getattr(ours, how).resident / getattr(theirs, how).resident
        what = f"{method}: in recovery, activations {how}, {LESS_MEMORY:.0%} less memory than LLM-Pruner"
        found.append(_less(what, where, saving))
    return found + _quality_claims(rows, baseline, f"{method}: no worse than LLM-Pruner", where)


def _less(what: str, where: str, saving: float | None) -> Claim:
    if saving is None:
        return Claim(what, where, None, "not measured")
    return Claim(what, where, saving >= LESS_MEMORY, f"{abs(saving):.1%} {'less' if saving >= 0 else 'more'}")


def _quality_claims(rows: Sequence[PaperRow], others: Sequence[PaperRow], what: str, where: str) -> list[Claim]:
    found = []
    for text in rows[0].window_losses:
        difference = loss_difference(rows, others, text)
        holds = None if difference is None else difference.is_no_worse
        found.append(Claim(f"{what}, perplexity on {text}", where, holds, _times(difference)))
    accuracy = accuracy_loss(rows, others)
    if accuracy is not None:
        said = f"{-accuracy.mean * 100:+.1f} ± {accuracy.error * 100:.1f} points".replace("-", "−")
        found.append(Claim(f"{what}, mean accuracy", where, accuracy.is_no_worse, said))
    return found


def _times(difference: Difference | None) -> str:
    if difference is None:
        return "not measured with the same seed"
    change = math.expm1(difference.mean)
    error = math.exp(difference.mean) * difference.error
    return f"{change:+.1%} ± {error:.1%}".replace("-", "−")


def _against_paper(report: PaperReport, method: str, ratio: float) -> list[Claim]:
    rows, paper = of_method(report.rows, method, ratio), of_method(report.rows, QPRUNER3.name, ratio)
    if not rows or not paper:
        return []
    found = []
    for text in rows[0].window_losses:
        difference = loss_difference(rows, paper, text)
        what = f"{method}: lower perplexity than QPruner3 in the same bytes, {text}"
        holds = None if difference is None else difference.mean < -difference.error
        found.append(Claim(what, f"{ratio:.0%}", holds, _times(difference)))
    return found


def _search_claims(searches: Sequence[SearchRow]) -> list[Claim]:
    """With the seconds of quantizing, which are the same for both and spare the quantize stage as many, and without."""
    by_name = {row.name: row for row in searches}
    if not {SEARCH_OURS, SEARCH_PAPER} <= set(by_name):
        return []
    ours, paper = by_name[SEARCH_OURS], by_name[SEARCH_PAPER]
    what = f"our search reaches QPruner3's final quality in {FASTER_SEARCH:.0%} of its seconds"
    wanted = paper.best[-1][1]
    second = next((ours.trials[index].second for index, perplexity in ours.best if perplexity <= wanted), None)
    if second is None:
        return [Claim(what, "", False, f"it ends at {ours.best[-1][1]:.2f}, QPruner3's at {wanted:.2f}")]
    found = []
    for counted, own, theirs in (
        ("modules quantized before", second - ours.quantizing, paper.seconds - paper.quantizing),
        ("their quantizing counted", second, paper.seconds),
    ):
        share = own / max(theirs, 1e-9)
        said = f"{share:.1%} of them: {own:.0f} s of {theirs:.0f} s"
        found.append(Claim(f"{what}, {counted}", "", share <= FASTER_SEARCH, said))
    return found
