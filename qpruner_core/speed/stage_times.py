"""Expected seconds of each stage, from its work and the measured speed of a machine."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PretrainedConfig

from qpruner_core.config import CompressionConfig
from qpruner_core.events import StageName
from qpruner_core.formats.declarations import FINAL, Effort, FormatDeclaration, declared
from qpruner_core.measure.agreement import MOST_BYTES
from qpruner_core.models.families import Family
from qpruner_core.precision_names import UNQUANTIZED
from qpruner_core.score.config import Information
from qpruner_core.speed.data_amounts import DataAmounts
from qpruner_core.speed.machine_speed import Kernel, MachineSpeed, Pass
from qpruner_core.speed.model_cost import ModelCost
from qpruner_core.speed.record import SpeedRecord
from qpruner_core.targets.base import Target
from qpruner_core.targets.registry import bind_target

_VALIDATION_SHARE = 0.1
_NEAR = 3
"""Precisions of a module that a search tries: that of the first knapsack and its neighbours."""
_SHARE_OF_PASS = 0.5
"""Share of the layers that run after a change of one group: those before it are cached."""
_SHARE_OF_TRIAL = 0.7
"""Share of the sequences per trial, because hopeless trials end early."""
_GROUPS_OF_PROPOSAL = 12
_RATIOS_TRIED = 4
_START_OF_WORKER = 6.0
"""Seconds until a process that measures trials has imported its libraries."""
_CHOICE_TOKENS = 64
_CHOICES = 4
_ESTIMATORS: dict[Information, float] = {"kmeans": 1.0, "knn": 1.0, "gaussian": 4.0}
"""Relative time of each estimator of mutual information; kmeans is 1."""


def expected_seconds(
    config: CompressionConfig,
    dense: PretrainedConfig,
    family: Family,
    record: SpeedRecord,
    *,
    ratio: float = 0.0,
    data: DataAmounts | None = None,
    target: Target | None = None,
    corrected: bool = True,
) -> dict[StageName, float]:
    """Seconds of each stage on the machine of ``record``, ignoring other load.

    Args:
        dense: config of the dense model, of whose layers' parameters ``ratio`` will be pruned.
        data: amounts of data; default: the amounts of the settings.
        target: with the precisions around the budget; default: all that the settings allow.
        corrected: correct by the times of earlier stages there; else use the machine's speed alone.
    """
    target = target or bind_target(config.target, config.quantize, config.allocate, config.finetune)
    model = ModelCost.of(dense, family, record.speed)
    work = _Work(config, model, ratio, data or DataAmounts.asked(config, None), target)
    stages: dict[StageName, Callable[[], float]] = {
        "prune": work.prune,
        "score": work.score,
        "allocate": work.allocate,
        "quantize": work.quantize,
        "finetune": work.finetune,
        "export": work.export,
        "evaluate": work.evaluate,
    }
    found = {stage: seconds() for stage, seconds in stages.items()}
    if corrected:
        found = {stage: seconds * record.correction(stage, seconds) for stage, seconds in found.items()}
    return {stage: round(seconds, 2) for stage, seconds in found.items()}


class _Work:
    """The work of each stage, as seconds."""

    def __init__(
        self, config: CompressionConfig, dense: ModelCost, ratio: float, data: DataAmounts, target: Target
    ) -> None:
        self._config = config
        self._dense = dense
        self._pruned = dense.pruned(ratio)
        self._ratio = ratio
        self._data = data
        self._speed: MachineSpeed = dense.speed
        self._target = target
        self._options, self._recovery = target.options, target.recovery
        self._lowered = [name for name in self._options if name != UNQUANTIZED]
        self._outside = [name for name in target.embedding_options if name != UNQUANTIZED]
        self._samples = config.score.sensitivity == "fisher" and not target.adapter_rank
        self._share = self._pruned.sampled if self._samples else 1.0
        self._groups = dense.layers * {"layer": 1, "block": 2, "module": dense.modules}[config.allocate.granularity]

    def _sequences(self, asked: int) -> float:
        return min(asked, self._data.calibration)

    # -- the stages

    def prune(self) -> float:
        settings, model, length = self._config.prune, self._dense, self._data.length
        count = self._sequences(settings.calibration_sequences)
        ends = model.load + model.write
        if self._ratio == 0 and settings.ratio_choice != "measured":
            return ends
        steps = settings.steps if settings.layout != "depth" else 1
        influence = (
            model.passes("forward", count, length) if settings.remove_layers or settings.layout == "depth" else 0
        )
        compensation = self._compensation(count) if settings.layout != "depth" else 0.0
        importance = self._importance(count) if settings.layout != "depth" else 0.0
        once = influence + steps * (importance + compensation)
        if settings.ratio is not None or settings.ratio_choice != "measured":
            return ends + once
        text = self._sequences(self._config.score.calibration_sequences)
        estimated = self._fits(model.sampled) + self._sensitivity(text, model.sampled)
        tried = model.load + compensation + estimated + model.passes("forward", text, length)
        return ends + once + _RATIOS_TRIED * tried

    def score(self) -> float:
        settings, model, length = self._config.score, self._pruned, self._data.length
        count = self._sequences(settings.calibration_sequences)
        positions = min(count * length, 4096)
        by_layer = self._speed.cluster + positions * model.hidden * self._speed.cluster_value
        information = model.passes("forward", count, length) + model.head(count * length)
        information += model.layers * by_layer * _ESTIMATORS[settings.information]
        fits = self._fits(self._share) + model.encode_outside(self._outside) * self._share
        values = 0.0 if self._samples else model.values(len(self._lowered))
        return model.load + information + fits + values + self._sensitivity(count, self._share)

    def allocate(self) -> float:
        settings, model = self._config.allocate, self._pruned
        alone = settings.search in ("knapsack", "mutual_information", "uniform")
        trials = (1 if alone else settings.trials) + settings.front_points
        asked = max(trials - 3 - settings.random_seeds, 0) if settings.search == "bayesian" else 0
        proposals = asked * self._speed.proposal * (0.75 + self._groups / (4 * _GROUPS_OF_PROPOSAL))
        tried = 1 if alone or trials == 1 else min(len(self._lowered), _NEAR)
        ready = model.load + model.values(tried)
        if self._samples:
            ready += model.load + self._fits(self._part(tried), moments_kept=True)
        if settings.objective == "recovered":
            ready += model.adapt
        else:
            count, length = self._sequences(settings.calibration_sequences), self._data.length
            ready += model.passes("forward", count, length) + model.logits(count * length, self._speed.logits.loss)
        measuring = trials * self._trial()
        if settings.workers > 1:
            measuring = measuring / settings.workers + _START_OF_WORKER + ready
        finalists = settings.finalists * self._brief_recovery() if settings.finalists > 1 else 0.0
        return ready + proposals + measuring + finalists

    def quantize(self) -> float:
        model, length = self._pruned, self._data.length
        windows = 2
        products = 3 * windows * length * model.layers * model.weights * self._speed.product
        nearest = model.encode(self._lowered) / max(len(self._lowered), 1)
        errors = (
            model.passes("forward", windows, length)
            + (products + nearest) * model.sampled
            + 2 * windows * model.values(1)
        )
        return model.load + model.values(1) + errors + model.write / 2

    def finetune(self) -> float:
        settings, model = self._config.finetune, self._pruned
        ready = 1.5 * model.load + model.adapt
        if settings.steps == 0:
            return ready
        if "merge" in self._recovery:
            ready += self._fits(self._part(1))
        # Scales: in each step, half for each part if there are two, weights are decoded twice
        made = 2 * model.values(1) * ("scales" in self._recovery) / len(self._recovery)
        if settings.loss != "cross_entropy":
            ready += self._dense.load
        kept_back = min(settings.validation_sequences, self._data.examples * _VALIDATION_SHARE)
        evaluations = settings.steps // settings.evaluate_every + 1 if kept_back else 0
        return (
            ready + settings.steps * (self._training_step() + made) + evaluations * self._loss_of(kept_back, self._row)
        )

    def export(self) -> float:
        model = self._pruned
        writing = sum(self._effort(one.write) for one in self._formats)
        return writing + model.stored * self._speed.files.read_byte

    def evaluate(self) -> float:
        settings, model = self._config.evaluate, self._pruned
        mixed: list[Kernel] = ["nf4"] if "nf4" in self._options else []
        if "int8" in self._options:
            mixed.append("llm_int8" if self._config.quantize.int8 == "llm_int8" else "int8")
        seconds = self._dense.load + self._measured(self._dense, [], settings.generated_tokens)
        seconds += model.load + (self._measured(model, [], settings.generated_tokens) if self._ratio > 0 else 0.0)
        if self._config.target == "bitsandbytes":  # the only target with a row of all NF4
            seconds += 2 * model.load + model.encode(["nf4"]) + model.write / 4
            seconds += self._measured(model, ["nf4"], settings.generated_tokens)
        as_quantized = declared("mixed")  # the row before recovery, and that after it if no format is measured as such
        after = [] if any(one.variant == FINAL for one in self._formats) else [as_quantized]
        rows = [as_quantized, *after, *(one for one in self._formats if not one.beside)]
        for row in rows:
            kernels = mixed if row.quantized else []
            seconds += self._effort(row.read)
            seconds += self._measured(model, kernels, settings.generated_tokens, adapted=row.adapted)
        compared = min(self._data.held_out * self._data.length, MOST_BYTES / 2 / model.vocabulary)
        return seconds + (2 + len(rows)) * compared * model.vocabulary * self._speed.logits.divergence

    # -- shared parts

    @property
    def _formats(self) -> list[FormatDeclaration]:
        return [declared(name) for name in self._config.export.formats]

    def _effort(self, effort: Effort) -> float:
        """Seconds of writing a format, or of reading it back."""
        model, fits = self._pruned, self._fits(self._part(1))
        return (
            effort.loads * model.load + effort.adapts * model.adapt + effort.writes * model.write + effort.fits * fits
        )

    def _importance(self, count: float) -> float:
        criterion, model, length = self._config.prune.criterion, self._dense, self._data.length
        if criterion in ("magnitude", "random"):
            return 0.0
        if criterion in ("wanda", "flap"):
            return model.passes("forward", count, length)
        parts = 1.0
        if criterion == "taylor_mixed":
            sums = 8.0 * model.layers * model.weights
            parts = max(sums / max(model.stored / 10, 256 * 2**20), 1.0)
        head = 2 * model.logits(length, 3 * self._speed.logits.loss)
        return parts * (model.passes("gradients", count, length) + count * head)

    def _compensation(self, count: float) -> float:
        kind, model, length = self._config.prune.compensation, self._dense, self._data.length
        if kind == "none":
            return 0.0
        return model.refit(count, length) if kind == "refit" else model.passes("forward", count, length)

    def _part(self, precisions: int) -> float:
        """The share of so many precisions among all."""
        return precisions / max(len(self._lowered), 1)

    def _fits(self, share: float, *, moments_kept: bool = False) -> float:
        """Fits of a ``share`` of all modules at all precisions, including the statistics of their inputs, which the
        score stage may have kept."""
        if not self._lowered:
            return 0.0
        count = self._sequences(self._config.fitting_sequences)
        return self._pruned.fit(
            self._lowered, count, self._data.length, self._target.quantize, share, moments_kept=moments_kept
        )

    def _sensitivity(self, count: float, share: float) -> float:
        """Sensitivities on ``count`` sequences, from a ``share`` of each module's outputs."""
        settings, model, length = self._config.score, self._pruned, self._data.length
        if settings.sensitivity == "divergence":
            return self._alone(count) * (1 if settings.sensitivity_context == "highest" else 2)
        effects = (1 + len(self._lowered) * share) * model.passes("forward", count, length)
        outputs = model.modules * self._speed.quantized["int8"].call  # overhead of a hook
        samples = settings.fisher_samples * count
        products = samples * model.layers * len(self._lowered) * outputs
        backward = model.passes("backward", samples, length) + 2 * model.logits(
            samples * length, self._speed.logits.loss
        )
        return effects + products + backward

    def _alone(self, count: float) -> float:
        """The divergence of each precision of each group alone."""
        return self._groups * len(self._lowered) * self._divergence(count)

    def _divergence(self, count: float) -> float:
        """The divergence of a model of which some groups have changed, on ``count`` sequences."""
        length, model = self._data.length, self._pruned
        layers = model.passes("forward", count, length) * _SHARE_OF_PASS
        return layers + model.logits(count * length, self._speed.logits.divergence)

    def _trial(self) -> float:
        settings = self._config.allocate
        if settings.objective == "recovered":
            return self._brief_recovery()
        learns = settings.search == "bayesian" and settings.prior == "additive"
        count = self._sequences(settings.calibration_sequences)
        return self._divergence(count * (_SHARE_OF_TRIAL if learns else 1.0))

    def _brief_recovery(self) -> float:
        settings = self._config.allocate
        kept_back = min(settings.calibration_sequences, max(self._data.examples * _VALIDATION_SHARE, 1))
        step = self._training_step(distils=False)
        return settings.recovery_steps * step + self._pruned.values(1) + self._loss_of(kept_back, self._data.example)

    @property
    def _row(self) -> float:
        """Tokens per row of a training batch."""
        return self._data.length if self._config.finetune.packing else self._data.example

    def _training_step(self, *, distils: bool | None = None) -> float:
        settings, model = self._config.finetune, self._pruned
        tokens = settings.batch_size * min(self._row, self._data.length)
        seconds = model.passes("training", 1, tokens)
        if settings.activation_checkpointing:
            seconds += model.passes("adapted", 1, tokens)
        if self._speed.gpu:
            seconds += 2 * model.quantized("nf4", 1, tokens)
        if distils is None:
            distils = settings.loss != "cross_entropy"
        if distils:
            seconds += self._dense.passes("forward", 1, tokens)
            seconds += 3 * model.head(tokens) + model.logits(tokens, self._speed.logits.distillation)
        else:
            seconds += model.head(tokens) + model.logits(tokens, 3 * self._speed.logits.loss)
        return settings.gradient_accumulation * seconds

    def _loss_of(self, sequences: float, tokens: float) -> float:
        batch = self._config.finetune.batch_size
        layers = self._pruned.passes("adapted", sequences / batch, tokens * batch)
        return layers + self._pruned.logits(sequences * tokens, self._speed.logits.loss)

    def _measured(self, model: ModelCost, kernels: list[Kernel], generated: int, *, adapted: bool = False) -> float:
        """Perplexity, choices and generation speed of a model whose modules are of these ``kernels``, equally many of
        each."""
        kind: Pass = "adapted" if adapted else "forward"
        data, generated = self._data, generated + 2
        seconds = self._speed.collect + model.passes(kind, data.held_out, data.length)
        seconds += model.logits(data.held_out * data.length, self._speed.logits.loss)
        scored = data.choices * _CHOICES
        seconds += model.passes(kind, scored, _CHOICE_TOKENS) + model.head(scored * _CHOICE_TOKENS)
        seconds += generated * (self._speed.token + model.passes(kind, 1, 1) + model.head(1))
        for kernel in kernels:
            added = model.quantized(kernel, data.held_out, data.length) + model.quantized(kernel, generated, 1)
            seconds += (added + model.quantized(kernel, scored, _CHOICE_TOKENS)) / len(kernels)
        return seconds
