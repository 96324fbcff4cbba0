"""How well each score foretells what precisions do to a pruned model, and how fast a trial of the search is.

    python -m bench.sensitivity --data PATH

writes docs/benchmarks/sensitivity.{md,json}. The pruned model is kept in --work-dir; all else takes minutes.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from bench.report import this_machine
from bench.sensitivity_report import Allocation, Effect, Score, SensitivityReport, render, speed_line
from bench.texts import Texts, calibration_windows, evaluated_windows, read_texts
from bench.trial_speed import measure_speed
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.allocate.memory_model import MemoryModel
from qpruner_core.allocate.seeds import at_random
from qpruner_core.allocate.space import SearchSpace
from qpruner_core.errors import QPrunerError
from qpruner_core.models import load_model, load_tokenizer, resolve_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of
from qpruner_core.precisions import precisions
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.pruning import prune_to_ratio
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.quantize.precision_bank import PrecisionBank
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.divergence import Divergence, Reference
from qpruner_core.score.fisher import fisher_sensitivity
from qpruner_core.score.information.layer_outputs import layer_mutual_information
from qpruner_core.score.prefix import PrefixForward
from qpruner_core.score.sensitivity import divergence_sensitivity, each_alone, lowest_context, mean_of
from qpruner_core.source_policy import SourcePolicy

DOCUMENT = Path("docs/benchmarks/sensitivity.md")
_LENGTH = 256
_PREFIX_BYTES = 2**28
_SHARES = (0.1, 0.25, 0.5)
"""Budgets of the random allocations, between all layers at 4 and all at 16 bits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or draw its document again; the exit code."""
    options = _parser().parse_args(arguments)
    figures = options.output.with_suffix(".json")
    try:
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
    directory = _pruned(options, texts)
    tokenizer = load_tokenizer(directory)
    model = load_model(directory)
    calibration = calibration_windows(
        tokenizer, next(iter(texts.calibration.values())), sequences=options.sequences, length=_LENGTH
    )
    name, text = next(iter(texts.evaluated.items()))
    held_out = evaluated_windows(tokenizer, text, options.sequences * 2 * _LENGTH, name)[:, :_LENGTH]
    settings = AllocateConfig(granularity="layer", embeddings=False)
    memory = MemoryModel(model.config, family_of(model), QuantizeConfig(), settings)
    bank = PrecisionBank(
        model, memory.groups, kinds=precisions(QuantizeConfig()), capacity=2**40, on_group=_shown("quantized groups")
    )
    scores = _scores(model, bank, calibration, options.samples)
    truth = HeldOut(model, bank, held_out)
    return SensitivityReport(
        model=options.model, ratio=options.ratio, sequences=options.sequences, length=_LENGTH,
        samples=options.samples, text=name, machine=this_machine(), scores=scores,
        groups=[group.name for group in memory.groups],
        effects=_effects(bank, truth),
        allocations=_allocations(bank, memory, truth, options.allocations),
        speed=measure_speed(model, bank, memory, calibration, options.trials, _shown("trials")),
    )  # fmt: skip


def _pruned(options: argparse.Namespace, texts: Texts) -> Path:
    """The directory of the model pruned by today's defaults; pruned once and kept."""
    directory = Path(options.work_dir) / f"pruned-{options.ratio}"
    if not directory.exists():
        source = resolve_model(options.model, SourcePolicy()).directory
        model, settings = load_model(source), PruneConfig()
        calibration = calibration_windows(
            load_tokenizer(source), next(iter(texts.calibration.values())),
            sequences=settings.calibration_sequences, length=_LENGTH,
        )  # fmt: skip
        pruned, _ = prune_to_ratio(model, family_of(model), settings, options.ratio, calibration, consume=True)
        partial = directory.with_suffix(".part")
        write_model(pruned, family_of(pruned), partial, tokenizer_from=source)
        partial.rename(directory)
    return directory


class HeldOut:
    """What the model, as its bank has it now, does on text that calibrated nothing: ``windows [windows, length]``."""

    def __init__(self, model: PreTrainedModel, bank: PrecisionBank, windows: torch.Tensor) -> None:
        self._bank, self._windows = bank, windows
        bank.apply([16] * len(bank.groups))  # scores leave it at the last bits that they tried
        self._forward = PrefixForward(model, family_of(model), windows, capacity=_PREFIX_BYTES)
        self._references = [Reference(self._forward.logits(index)) for index in range(len(windows))]
        self._before = self._measure().log_perplexity

    def __call__(self, bits: Sequence[int]) -> Effect:
        """The KL divergence from the 16-bit model, and the rise of log perplexity, in nats per token."""
        self._bank.apply(bits)
        found = self._measure()
        return Effect(divergence=found.divergence, log_perplexity=found.log_perplexity - self._before)

    def _measure(self) -> Effect:
        divergence = loss = 0.0
        for index, (window, reference) in enumerate(zip(self._windows, self._references, strict=True)):
            logits = self._forward.logits(index, self._bank.states())
            divergence += reference.divergence(logits) / len(window)
            loss += cross_entropy(logits[:-1].float(), window[1:]).item()
        return Effect(divergence=divergence / len(self._windows), log_perplexity=loss / len(self._windows))


def _scores(model: PreTrainedModel, bank: PrecisionBank, calibration: torch.Tensor, samples: int) -> dict[str, Score]:
    started = time.perf_counter()
    information = layer_mutual_information(
        model, family_of(model), calibration, ScoreConfig(), seed=0, on_layer=_shown("mutual information")
    )
    # It knows layers, not precisions: what a layer tells of the prediction, for every bit that it lacks
    sensitivity = [{bits: value * (16 - bits) for bits in (4, 8, 16)} for value in information]
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


def _effects(bank: PrecisionBank, truth: HeldOut) -> list[dict[int, Effect]]:
    shown, count = _shown("effects"), len(bank.groups)
    found: list[dict[int, Effect]] = [{} for _ in bank.groups]
    for done, index in enumerate(reversed(range(count))):
        for bits in (4, 8):
            found[index][bits] = truth([bits if other == index else 16 for other in range(count)])
        shown(done + 1, count)
    return found


def _allocations(bank: PrecisionBank, memory: MemoryModel, truth: HeldOut, count: int) -> list[Allocation]:
    generator, shown = random.Random(0), _shown("random allocations")  # noqa: S311 - a sample, not a secret
    least, most = (memory.total([bits] * len(memory.groups)) for bits in (4, 16))
    found = []
    for share in _SHARES:
        for _ in range(count):
            space = SearchSpace.of(memory, int(least + share * (most - least)))
            bits = at_random(space, generator)
            found.append(Allocation(share=share, bits=bits, effect=truth(bits)))
            shown(len(found), count * len(_SHARES))
    bank.apply([16] * len(bank.groups))
    return found


def _shown(what: str) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if done == total or done % 10 == 0:
            print(f"{what}: {done}/{total}", flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
