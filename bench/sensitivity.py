"""How well each score foretells what precisions do to a pruned model, and how fast a trial of the search is.

    python -m bench.sensitivity --data PATH

writes docs/benchmarks/sensitivity.{md,json}. The pruned model, its fitted layers and their losses are kept in
--work-dir; all else takes minutes.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bench.allocation_loss import HIGH, LOW, AllocationLoss
from bench.fitted_layers import fitted_layers
from bench.own_files import require_own_document
from bench.report import this_machine
from bench.sensitivity_report import TITLE, Allocation, Effect, Score, SensitivityReport, render, speed_line
from bench.texts import calibration_windows, evaluated_windows, read_texts
from bench.trial_speed import measure_speed
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import QPrunerError
from qpruner_core.fitting.precision_bank import PrecisionBank
from qpruner_core.measure.divergence import Divergence
from qpruner_core.measure.fisher import fisher_sensitivity
from qpruner_core.measure.sensitivity import divergence_sensitivity, each_alone, lowest_context, mean_of
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.models import load_tokenizer, resolve_model
from qpruner_core.models.families import family_of
from qpruner_core.precision_names import BITS_PER_WEIGHT
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information.layer_outputs import layer_mutual_information
from qpruner_core.search.seeds import at_random
from qpruner_core.search.space import SearchSpace
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.targets.registry import bind_target

DOCUMENT = Path("docs/benchmarks/sensitivity.md")
_LENGTH: int = CompressionConfig.model_fields["sequence_length"].default
_PRECISIONS = (LOW, "int8", HIGH)
_PREFIX_BYTES = 2**28
_SHARES = (0.1, 0.25, 0.5)
"""Budgets of the random allocations, between all layers at 4 and all at 16 bits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    figures = options.output.with_suffix(".json")
    try:
        require_own_document(options.output, TITLE, SensitivityReport)
        if not options.render:
            report = _measure(options)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            figures.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        report = SensitivityReport.model_validate_json(figures.read_text(encoding="utf-8"))
        options.output.write_text(render(report), encoding="utf-8")
    except (QPrunerError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{speed_line(report)}\nWritten: {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.sensitivity", description="Benchmark of the scores.")
    parser.add_argument("--data", type=Path, help="folder with text/; without it: Python's own help")
    parser.add_argument("--model", default="demo:smollm2-135m-instruct")
    parser.add_argument("--ratio", type=float, default=0.2, help="of pruning (default %(default)s)")
    parser.add_argument("--sequences", type=int, default=2, help="that calibrate, and as many held out")
    parser.add_argument("--samples", type=int, default=ScoreConfig().fisher_samples, help="of labels, for Fisher")
    parser.add_argument("--allocations", type=int, default=10, help="random ones a budget (default %(default)s)")
    parser.add_argument("--trials", type=int, default=10, help="whose speed is measured (default %(default)s)")
    parser.add_argument("--render", action="store_true", help="only draw the document again from its .json")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document (default %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path(".qpruner/bench-sensitivity"))
    return parser


def _measure(options: argparse.Namespace) -> SensitivityReport:
    texts = read_texts(options.data)
    documents = next(iter(texts.calibration.values()))
    print("pruning and fitting the layers", flush=True)
    fitted = fitted_layers(options.model, options.ratio, documents, _PRECISIONS, options.work_dir)
    model, bank, config = fitted.model, fitted.bank, fitted.config
    tokenizer = load_tokenizer(resolve_model(options.model, SourcePolicy()).directory)
    calibration = calibration_windows(tokenizer, documents, sequences=options.sequences, length=_LENGTH)
    name, text = next(iter(texts.evaluated.items()))
    held_out = evaluated_windows(tokenizer, text, options.sequences * 2 * _LENGTH, name)[:, :_LENGTH]
    memory = MemoryModel(model.config, family_of(model), bind_target(config.target, config.quantize, config.allocate))
    scores = _scores(model, bank, calibration, options.samples)
    truth = HeldOut(AllocationLoss(fitted, held_out, options.work_dir))
    effects = _effects(truth)
    allocations = _allocations(memory, truth, options.allocations)
    bank.apply(truth.highest)
    return SensitivityReport(
        model=options.model, ratio=options.ratio, sequences=options.sequences, length=_LENGTH,
        samples=options.samples, text=name, machine=this_machine(), quantize=config.quantize, scores=scores,
        groups=[group.name for group in bank.groups], effects=effects, allocations=allocations,
        speed=measure_speed(model, bank, memory, calibration, options.trials, _shown("trials")),
    )  # fmt: skip


class HeldOut:
    """What allocations do by ``loss``, against the model in 16 bits."""

    def __init__(self, loss: AllocationLoss) -> None:
        self._loss = loss
        self.highest = (HIGH,) * loss.layers
        self._before = loss(self.highest).log_perplexity

    def __call__(self, precisions: Sequence[str]) -> Effect:
        """The KL divergence, and the rise of log perplexity, in nats per token."""
        found = self._loss(precisions)
        return Effect(divergence=found.divergence, log_perplexity=found.log_perplexity - self._before)


def _scores(model: PreTrainedModel, bank: PrecisionBank, calibration: torch.Tensor, samples: int) -> dict[str, Score]:
    started = time.perf_counter()
    information = layer_mutual_information(
        model, family_of(model), calibration, ScoreConfig(), seed=0, on_layer=_shown("mutual information")
    )
    # It knows layers, not precisions: what a layer tells of the prediction, for every bit that it lacks
    lacking = {precision: BITS_PER_WEIGHT[HIGH] - BITS_PER_WEIGHT[precision] for precision in _PRECISIONS}
    sensitivity = [{name: value * bits for name, bits in lacking.items()} for value in information]
    found = {"mutual information": Score(sensitivity=sensitivity, seconds=time.perf_counter() - started)}
    started = time.perf_counter()
    sensitivity = fisher_sensitivity(model, bank, calibration, samples=samples, seed=0, on_piece=_shown("Fisher"))
    found["Fisher"] = Score(sensitivity=sensitivity, seconds=time.perf_counter() - started)
    divergence = Divergence(model, family_of(model), calibration, capacity=_PREFIX_BYTES)
    started = time.perf_counter()
    highest = divergence_sensitivity(bank, divergence, "highest", _shown("divergence"))
    once = time.perf_counter() - started
    shown = _shown("divergence, lowest")
    lowest = each_alone(bank, divergence, lowest_context(bank, highest), lambda done: shown(done, len(highest)))
    both = time.perf_counter() - started
    found["divergence, highest"] = Score(sensitivity=highest, seconds=once)
    found["divergence, lowest"] = Score(sensitivity=lowest, seconds=both)
    found["divergence, mean"] = Score(sensitivity=mean_of(highest, lowest), seconds=both)
    return found


def _effects(truth: HeldOut) -> list[dict[str, Effect]]:
    shown, count = _shown("effects"), len(truth.highest)
    found: list[dict[str, Effect]] = [{} for _ in truth.highest]
    for done, index in enumerate(reversed(range(count))):
        for precision in _PRECISIONS:
            if precision != HIGH:
                found[index][precision] = truth([precision if other == index else HIGH for other in range(count)])
        shown(done + 1, count)
    return found


def _allocations(memory: MemoryModel, truth: HeldOut, count: int) -> list[Allocation]:
    generator, shown = random.Random(0), _shown("random allocations")  # noqa: S311 - a sample, not a secret
    least, most = (memory.total([precision] * len(memory.groups)) for precision in (LOW, HIGH))
    found = []
    for share in _SHARES:
        for _ in range(count):
            space = SearchSpace.of(memory, int(least + share * (most - least)))
            precisions = at_random(space, generator)
            found.append(Allocation(share=share, precisions=precisions, effect=truth(precisions)))
            shown(len(found), count * len(_SHARES))
    return found


def _shown(what: str) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if done == total or done % 10 == 0:
            print(f"{what}: {done}/{total}", flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
