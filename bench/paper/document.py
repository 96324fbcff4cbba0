"""The benchmark as a markdown document, worked out from its report alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.paper.claims import Claim, claims
from bench.paper.methods import OURS_FREE
from bench.paper.plots import CURVES, FRONT, PRECISIONS, SEARCH, draw
from bench.paper.reasons import reasons
from bench.paper.rows import PaperReport
from bench.paper.run import methods_of
from bench.paper.search_comparison import SEARCHES
from bench.paper.tables import at_chance_table, claims_table, results_table, search_table
from qpruner_core.sizes import format_bytes

TITLE = "# The paper's claims, on our model"
_PEERS = (
    "At equal bytes without pruning and without recovery: [frontier.md](frontier.md), and [peers.md](peers.md) from "
    "before."
)


def render(report: PaperReport, document: Path) -> str:
    """The document; pictures are drawn beside its path."""
    plots = draw(report, document)
    found = claims(report)
    parts = [
        TITLE,
        _made_by(report),
        *([report.note] if report.note else []),
        _missing(report),
        "## Must show",
        claims_table(found),
        "A perplexity or an accuracy is given relative to the other's, with the standard error of the difference: of "
        "perplexities over windows of text and over the seeds that both have, paired; of accuracies over examples.",
        *_reasons(report, found),
        "## Bytes against perplexity",
        _picture(plots, FRONT, "Perplexity against bytes, first seed"),
    ]
    for ratio in report.amounts.ratios:
        table = results_table(report.dense, report.rows, report.memory, ratio)
        parts += [f"## {ratio:.0%} pruned", _budget(report, ratio), table]
    parts += ["## How it was measured", _measured(report)]
    parts += ["## Precision by layer", _picture(plots, PRECISIONS, "Precision by layer")]
    parts += ["## Recovery", _picture(plots, CURVES, "Held-back loss in recovery, first seed"), _tuning(report)]
    if report.searches:
        parts += ["## Searches", _searches(report), search_table(report.searches)]
        parts += [_picture(plots, SEARCH, "Perplexity against seconds of search")]
    parts += ["## Beside other tools", _PEERS]
    chance = [(ratio, at_chance_table(report.dense, report.rows, ratio)) for ratio in report.amounts.ratios]
    if any(table for _, table in chance):
        parts += ["## Tasks at chance", "This model cannot do these even before it is pruned: they show no damage."]
        parts += [f"{ratio:.0%} pruned:\n\n{table}" for ratio, table in chance]
    return "\n\n".join(part for part in parts if part) + "\n"


def _made_by(report: PaperReport) -> str:
    made = report.machine
    threads = f"{made.threads} thread" + ("s" if made.threads > 1 else "")
    beside = f" in each of {report.workers} processes beside each other" if report.workers > 1 else ""
    return (
        f"Made by `make bench-paper` on {made.date}: {Path(report.model).name} on {made.machine}, {threads}"
        f"{beside}; {made.versions}. Drawn again from `paper.json` by `python -m bench.paper --render`."
    )


def _missing(report: PaperReport) -> str:
    """What the document lacks of what it is about."""
    there = {(row.method, row.ratio, row.seed) for row in report.rows}
    rows = [
        f"{method.name} at {ratio:.0%}" + (f" with seed {seed}" if seed else "")
        for seed in range(report.amounts.seeds)
        for ratio in report.amounts.ratios
        for method in methods_of(report.amounts, seed)
        if (method.name, ratio, seed) not in there
    ]
    remembered = {(row.method, row.ratio) for row in report.memory}
    wanted = [(row.method, row.ratio) for row in report.rows if row.seed == 0] if report.amounts.memory_steps else []
    rows += [f"memory of {method} at {ratio:.0%}" for method, ratio in wanted if (method, ratio) not in remembered]
    searched = {row.name for row in report.searches}
    rows += [f"the search by {search.name}" for search in SEARCHES if search.name not in searched]
    return f"**Not measured yet:** {', '.join(rows)}." if rows else ""


def _reasons(report: PaperReport, found: Sequence[Claim]) -> list[str]:
    paragraphs = reasons(report, found)
    return ["## Where the paper's claim does not hold, and why", *paragraphs] if paragraphs else []


def _picture(plots: dict[str, Path], name: str, title: str) -> str:
    return f"![{title}]({plots[name].name})" if name in plots else ""


def _budget(report: PaperReport, ratio: float) -> str:
    budgets = sorted({row.budget for row in report.rows if row.ratio == ratio and row.method == "QPruner3"})
    if not budgets:
        return ""
    return f"QPruner2, QPruner3 and ours have at most {' or '.join(format_bytes(budget) for budget in budgets)}."


def _measured(report: PaperReport) -> str:
    amounts = report.amounts
    lines = [
        f"- All methods learn from {report.text_name}, which no evaluation has: recovery is of general text. All take "
        f"{amounts.steps} steps of {amounts.batch_size} × {amounts.length} tokens, AdamW, cosine schedule, "
        f"learning rate {report.learning_rate:g}, {amounts.steps // 10} steps of warm-up, and keep the best of the "
        "evaluations on held-back text. That is far from LLM-Pruner's two epochs of batch 64, for all alike.",
        "- LLM-Pruner, QPruner1, 2 and 3 are the presets of these names: LLM-Pruner's pruning and cross-entropy. Ours "
        'is the preset "best": it learns from the dense model\'s predictions; "learning from text" is the same but for '
        'that; "given only bytes" is pruned by the smallest ratio at which the budget holds at the lowest precision'
        f"{_nothing_pruned(report)}.",
        "- Equal bytes: half way between all layers at NF4 and all at INT8 of the model that LLM-Pruner's pruning "
        "leaves, with 16-bit embeddings and adapters of rank 8. QPruner1 has the bytes of uniform NF4, LLM-Pruner "
        "those of 16 bits, its adapters merged.",
        f"- Seeds: {amounts.seeds} of {'; '.join(amounts.repeated)}, from the split of the data on; ± of their "
        "perplexities is the standard error over seeds. Other methods have the first seed alone: the table's means of "
        "several are not quite like theirs, the claims compare seeds with the same.",
        f"- Perplexity: the first {amounts.tokens} tokens of each text, in windows of 512. Tasks: the first "
        f"{amounts.examples} examples (at most), zero-shot, acc / acc_norm and the standard error of acc; LAMBADA: "
        "share of words that greedy decoding gets right, and their perplexity. *Mean*: of LAMBADA, PIQA and ARC-easy "
        "by acc, and HellaSwag by acc_norm.",
        "- Models are evaluated with 16-bit modules of the values that the quantized ones multiply with, and their "
        "rounding of inputs: on a CPU much faster. Bytes are of the quantized model, as it is loaded.",
        f"- Memory of recovery: the most that a process of its own has resident in {amounts.memory_steps} steps, not "
        "counting its libraries and what the C library keeps of freed memory; the quantized model, its adapters, "
        "activations and, where it is learned from, the dense model. *recovery*: activations are kept for the "
        "gradient, as by default; *recomputed*: `finetune.activation_checkpointing`, the same result in more time. Of "
        "the first seed's shapes and precisions. On a CPU the pipeline itself trains on de-quantized 16-bit values, "
        "which is faster and takes more.",
        "- Seconds of search: of those parts of scoring that the method needs, and of allocating. Seconds of recovery "
        "are of the pipeline's own training.",
        f"- QPruner3 tries {amounts.paper_trials} allocations with {amounts.recovery_steps} steps of recovery each, "
        f"ours {amounts.trials} without. Where searches are compared, QPruner3's tries {amounts.compared_trials} with "
        f"{amounts.compared_steps} steps each, as its preset does.",
    ]
    return "\n".join(lines)


def _nothing_pruned(report: PaperReport) -> str:
    removed = [row.removed for row in report.rows if row.method == OURS_FREE.name]
    return ", here 0%" if removed and not any(removed) else ""


def _tuning(report: PaperReport) -> str:
    if not report.tuning:
        return f"The learning rate of all methods is {report.learning_rate:g}, as given."
    tried = ", ".join(f"{row.learning_rate:g} ({row.lowest:.3f})" for row in report.tuning)
    return (
        "The learning rate of all methods is the one that is best for LLM-Pruner at the first ratio, by held-back "
        f"loss: {tried}."
    )


def _searches(report: PaperReport) -> str:
    return (
        f"On the model that ours pruned by {report.amounts.search_ratio:.0%}, in the same bytes, "
        f"{report.amounts.search_share:.0%} of the way from NF4 to INT8, each with the fitted modules that the "
        "quantize stage writes. Each is charged what it needs of scoring, and that modules are fitted, though that is "
        'done once for all; "mutual information only" is not charged for fitting, as it chooses its one allocation '
        "without. What a stage takes beside its trials is put before the first. QPruner3's search chooses among 4 and "
        "8 bits for layers by the loss after a brief recovery, the others among 4, 8 and 16 with the embeddings by "
        "divergence. Perplexity of the best so far, by each search's own measure, is of the model with its first "
        "adapters, before recovery."
    )
