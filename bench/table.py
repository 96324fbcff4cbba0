"""The pruning benchmark as a markdown document."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report import Report
from bench.rows import Row
from qpruner_core.sizes import format_bytes

TITLE = "# Pruning, before any recovery"

BASELINE = "LLM-Pruner recipe"
ROUNDED_DOWN = f"{BASELINE}, groups rounded down"


def render(report: Report, plot: str) -> str:
    """The document; ``plot``: the picture's file name beside it."""
    text = _texts(report)[0]
    ratios = sorted({row.ratio for row in report.rows if row.settings is not None})
    parts = [
        TITLE,
        _made_by(report),
        *([report.note] if report.note else []),
        "## Against LLM-Pruner",
        *_comparisons(report, text, ratios),
        f"![Perplexity on {text} against parameters]({plot})",
        "## What is measured",
        _what_is_measured(report),
    ]
    dense = [row for row in report.rows if row.settings is None]
    for ratio in ratios:
        rows = sorted(
            (row for row in report.rows if row.settings is not None and row.ratio == ratio),
            key=lambda row: row.measures[text]["perplexity"],
        )
        parts += [f"## {ratio:.0%} of the layers' parameters removed", results_table([*dense, *rows])]
    if report.correlations:
        parts += ["## What the loss really does", _CORRELATIONS, report.correlations]
    return "\n\n".join(parts) + "\n"


def results_table(rows: Sequence[Row]) -> str:
    """A markdown table of ``rows``, in this order, with a column for every text and task of the first."""
    names = list(rows[0].measures)
    header = ["recipe", "removed", "parameters", *names, "peak memory", "scoring", "cutting"]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for row in rows:
        cells = [row.recipe, f"{row.removed:.1%}", f"{row.parameters / 1e6:.1f} M"]
        cells += [measures_cell(row.measures.get(name, {})) for name in names]
        if row.settings is None:
            cells += ["–"] * 3
        else:
            cells += [format_bytes(max(row.peak_bytes, 0)), f"{row.score_seconds:.1f} s", f"{row.cut_seconds:.1f} s"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measures_cell(measures: dict[str, float]) -> str:
    """The measures of one text or task in a few characters; a dash where there are none."""
    if not measures:
        return "–"
    if "acc_norm" in measures:
        return f"{_share(measures['acc'])} / {_share(measures['acc_norm'])} ±{_share(measures['acc_stderr'])}"
    perplexity = _perplexity(measures["perplexity"])
    if "acc" in measures:
        return f"{_share(measures['acc'])} ±{_share(measures['acc_stderr'])} ({perplexity})"
    return perplexity


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _perplexity(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else f"{value:.1e}"


def _texts(report: Report) -> list[str]:
    return [name for name, found in report.rows[0].measures.items() if "acc" not in found]


def _comparisons(report: Report, text: str, ratios: Sequence[float]) -> list[str]:
    lines = [
        f"| removed | dense | {BASELINE} | the same, groups rounded down | the best of ours | perplexity | lower by "
        f"| the default ({report.default}) | lower by |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    dense = next(row for row in report.rows if row.settings is None).measures[text]["perplexity"]
    for ratio in ratios:
        rows = {row.recipe: row.measures[text]["perplexity"] for row in report.rows if row.ratio == ratio}
        theirs = [rows[name] for name in (BASELINE, ROUNDED_DOWN) if name in rows]
        ours = {name: value for name, value in rows.items() if not name.startswith(BASELINE)}
        if len(theirs) < 2 or not ours:
            continue
        best = min(ours, key=ours.__getitem__)
        default = rows.get(report.default)
        lines.append(
            f"| {ratio:.0%} | {_perplexity(dense)} | {' | '.join(map(_perplexity, theirs))} | {best} "
            f"| {_perplexity(ours[best])} | {_lower(ours[best], min(theirs))} "
            f"| {'–' if default is None else _perplexity(default)} "
            f"| {'–' if default is None else _lower(default, min(theirs))} |"
        )
    return [
        f'Perplexity on {text}; the lower the better. "Lower by" is against the better reading of the recipe.',
        "\n".join(lines),
    ]


def _lower(ours: float, theirs: float) -> str:
    return f"{1 - ours / theirs:.0%}".replace("-", "−")


def _made_by(report: Report) -> str:
    made = report.machine
    return (
        f"Made by `bench/prune.py` on {made.date}: {report.model} in bfloat16 on {made.machine}, {made.threads} "
        f"threads; {made.versions}. Drawn again from `prune.json` by `python -m bench.prune --render`."
    )


def _what_is_measured(report: Report) -> str:
    limits = report.limits
    lines = [
        "- *Removed* is the fraction of all parameters of the decoder layers; embeddings are not counted. No weight is "
        "trained afterwards.",
        f"- Perplexity: the first {limits.tokens} tokens of each text, in windows of 512 that do not overlap.",
    ]
    if len(_texts(report)) < len(report.rows[0].measures):
        lines.append(
            f"- Tasks: the first {limits.examples} examples of each (at most), zero-shot, by log-likelihood. LAMBADA: "
            "share of words that greedy decoding gets right, its standard error, and the perplexity of the word. The "
            "others: acc / acc_norm (by characters), and the standard error of acc. Differences below two standard "
            "errors say nothing."
        )
    lines += [
        f"- Our criteria are calibrated on {limits.calibration_sequences} sequences of {limits.calibration_length} "
        f"tokens of {limits.calibration_text}; LLM-Pruner's recipe, as it asks, on 10 of 64 tokens of "
        f"{limits.baseline_text}. Neither has been seen by the evaluation.",
        f"- {BASELINE}: `bench/llm_pruner.py` says how it was carried over to grouped-query attention.",
        "- Peak memory: anonymous memory of the process above that with the 16-bit model loaded, sampled every 2 ms "
        "while importance is measured and while the model is cut.",
        "- Scoring is measured once a criterion and shared by its rows; the moments that weights are fitted with once "
        "in all, in the time and memory of the first row that needs them. A row pruned in several steps has it all "
        "under scoring.",
    ]
    return "\n".join(lines)


_CORRELATIONS = (
    "Spearman's rank correlation of every criterion with the change of the loss when single units are really removed "
    "(`bench/unit_removal.py`), over all layers and within one."
)
