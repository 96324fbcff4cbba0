"""How long the benchmark will probably take, from the speed of this machine."""

from __future__ import annotations

from bench.paper.measured import PaperEvaluation
from bench.paper.methods import METHODS, QPRUNER3, Method
from bench.paper.rows import PaperRow, SearchRow, TuningRow
from bench.paper.run import PaperRun, methods_of, row_name, tuning_name
from bench.paper.search_comparison import SEARCHES
from qpruner_core.events import StageName
from qpruner_core.models.families import find_family
from qpruner_core.models.model_config import CONFIG_FILE, read_config
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.model_cost import ModelCost
from qpruner_core.speed.record import record_of_this_machine
from qpruner_core.speed.stage_times import expected_seconds

_STAGES: tuple[StageName, ...] = ("prune", "score", "allocate", "quantize", "finetune")
_WINDOW = 128
_WITHOUT_COMPUTING = 15.0
"""Seconds that a row takes for loading, writing and the processes that measure memory."""


def expected_duration(run: PaperRun) -> float:
    """Seconds of what is still to be measured, good to a factor of about two; 0 if this machine cannot be measured."""
    amounts = run.amounts
    setup = run.setup(amounts.learning_rates[0])
    dense = read_config(run.source.directory / CONFIG_FILE)
    family = find_family(dense.model_type)
    record = record_of_this_machine(SourcePolicy())
    if record is None:
        return 0.0
    model, tokens = ModelCost.of(dense, family, record.speed), _evaluated_tokens(run.evaluation)
    evaluating = model.passes("forward", tokens / _WINDOW, _WINDOW) + model.head(tokens) + _WITHOUT_COMPUTING

    def row(method: Method, ratio: float, seed: int) -> float:
        stages = expected_seconds(setup.config(method, ratio, seed, 2**62), dense, family, record, ratio=ratio)
        return sum((stages[stage] for stage in _STAGES), evaluating)

    rows = sum(
        row(method, cell.ratio, cell.seed)
        for cell in run.cells()
        for method in methods_of(amounts, cell.seed)
        if not run.rows.has(PaperRow, row_name(method, cell))
    )
    rates = [rate for rate in amounts.learning_rates if not run.rows.has(TuningRow, tuning_name(rate))]
    tuning = row(METHODS[0], amounts.ratios[0], 0) * len(rates) if len(amounts.learning_rates) > 1 else 0.0
    searches = [search for search in SEARCHES if not run.rows.has(SearchRow, search.name)]
    comparing = row(QPRUNER3, amounts.search_ratio, 0) / 2 if amounts.search_ratio in amounts.ratios else 0.0
    return rows + tuning + comparing * len(searches)


def _evaluated_tokens(evaluation: PaperEvaluation) -> int:
    texts = sum(windows.numel() for windows in evaluation.texts.values())
    examples = [example.choices for task in evaluation.tasks.values() for example in task]
    return texts + sum(len(one.context_ids) + sum(map(len, one.choice_ids)) for one in examples)
