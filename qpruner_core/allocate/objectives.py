"""Objectives of a trial: divergence of the predictions, or loss after a brief recovery."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from qpruner_core.adapters import adapter_name, adapter_parameters, attach_adapter, write_adapter
from qpruner_core.errors import NotFiniteError, TrainingDivergedError
from qpruner_core.fitting.fit_files import FitFiles
from qpruner_core.fitting.precision_bank import PrecisionBank, fitted_bank, fitted_pairs
from qpruner_core.measure.divergence import Divergence
from qpruner_core.mixed.groups import PrecisionGroup, adapted_names, precision_by_module, precision_groups
from qpruner_core.mixed.pruned import load_pruned_model
from qpruner_core.resources import free_memory
from qpruner_core.search.known_trials import KnownTrial, KnownTrials
from qpruner_core.search.space import Allocation
from qpruner_core.search.trial import Proposal, TrialMeasurement
from qpruner_core.stage import StageContext
from qpruner_core.training.batches import batches, in_batches
from qpruner_core.training.training import train
from qpruner_core.training.validation import keep_back, validation_loss

HOPELESS = 1000.0
"""Loss recorded when it is not finite, in nats per token: far above that of guessing among all words."""

Objective = Callable[[Proposal], TrialMeasurement]
MeasureAll = Callable[[Sequence[Proposal]], Iterable[TrialMeasurement]]
"""Measures proposals that are independent of each other; results are in the order of the proposals."""
OnProgress = Callable[[float], None]


def make_objective(context: StageContext, on_progress: OnProgress) -> Objective:
    """The objective that the settings of the run name, with its own copy of the model."""
    model = load_pruned_model(context)
    groups = precision_groups(model, context.plan.family, context.plan.target)
    if context.config.allocate.objective == "recovered":
        return surviving(recovered_objective(RecoveredLoss(context, groups, on_progress)))
    return surviving(divergence_objective(context, model, groups))


def surviving(measure: Objective) -> Objective:
    """Wrap ``measure``: an allocation with non-finite predictions becomes a hopeless trial instead of a failed run."""

    def measured(proposal: Proposal) -> TrialMeasurement:
        started = time.perf_counter()
        try:
            found = measure(proposal)
        except (NotFiniteError, TrainingDivergedError):
            found = TrialMeasurement(math.inf, math.inf, proposal.sequences, 0.0)
        if math.isfinite(found.loss):
            return found
        return TrialMeasurement(HOPELESS, HOPELESS, proposal.sequences, time.perf_counter() - started)

    return measured


class FitsOfTrials:
    """Fits the modules of proposals before an objective reads them, so that the objective only reads."""

    def __init__(self, context: StageContext, groups: Sequence[PrecisionGroup], on_progress: OnProgress) -> None:
        self._context = context
        self._groups = groups
        self._on_progress = on_progress
        self._made: set[tuple[str, str]] = set()

    def make(self, options: Sequence[Iterable[str]]) -> None:
        """Fit every module at its precisions under these ``options`` of each group, unless that is already done."""
        recovered = self._context.config.allocate.objective == "recovered"  # trains adapters of 16-bit modules too
        wanted = fitted_pairs(self._groups, options, unquantized=recovered)
        missing = [pair for pair in wanted if pair not in self._made]
        if missing:
            # its own model, because the model of an objective has the weights of some trial
            model = load_pruned_model(self._context)
            FitFiles(self._context, model).make(missing, lambda done, total: self._on_progress(done / total))
            self._made.update(missing)

    def before(self, measure: MeasureAll) -> MeasureAll:
        """Wrap ``measure`` to fit the modules of its proposals first."""

        def measured(proposals: Sequence[Proposal]) -> Iterable[TrialMeasurement]:
            if proposals:
                self.make([dict.fromkeys(each) for each in zip(*(one.precisions for one in proposals), strict=True)])
            return measure(proposals)

        return measured


def divergence_objective(context: StageContext, model: PreTrainedModel, groups: Sequence[PrecisionGroup]) -> Objective:
    """KL divergence (nats per token) of the quantized model with its initial adapters from the pruned ``model``.

    A trial runs only the layers from the first changed one on, and starts with a little text; see :class:`Proposal`.
    """
    settings = context.config.allocate
    bank = fitted_bank(context, model, groups, processes=settings.workers)
    calibration = context.data().calibration[: settings.calibration_sequences]
    capacity = free_memory(model.device) // (4 * settings.workers)
    divergence = Divergence(model, context.plan.family, calibration, capacity=capacity)

    def measure(proposal: Proposal) -> TrialMeasurement:
        started = time.perf_counter()
        bank.apply(proposal.precisions)
        loss = screening_loss = divergence(states=bank.states(), sequences=proposal.screening)
        stopped = screening_loss > proposal.stop_above
        if not stopped and proposal.screening < proposal.sequences:
            loss = divergence(states=bank.states())
        measured = proposal.screening if stopped else proposal.sequences
        return TrialMeasurement(loss, screening_loss, measured, time.perf_counter() - started)

    return measure


class RecoveredLoss:
    """Loss (nats per token) on held-back training text after ``allocate.recovery_steps`` steps of recovery on the rest,
    starting from the initial adapters of the allocation."""

    def __init__(self, context: StageContext, groups: Sequence[PrecisionGroup], on_progress: OnProgress) -> None:
        self._context = context
        self._groups = groups
        self._settings = context.config.finetune.model_copy(update={"steps": context.config.allocate.recovery_steps})
        base = load_pruned_model(context)
        self._fits = FitFiles(context, base)
        layers = range(len(context.plan.family.decoder_layers(base)))
        self._adapted = [name for layer in layers for name in adapted_names(base, context.plan.family, layer)]
        everything = fitted_pairs(groups, [group.options for group in groups], unquantized=True)
        self._fits.make(everything, lambda done, total: on_progress(done / total))
        self._bank = PrecisionBank(
            base,
            groups,
            kinds=context.plan.target.precisions,
            capacity=free_memory(base.device) // (2 * context.config.allocate.workers),
            value=self._fits.quantized,
        )
        lowest = precision_by_module(groups, [next(iter(group.options)) for group in groups])
        with tempfile.TemporaryDirectory() as directory:
            write_adapter(
                Path(directory),
                self._factors(lowest),
                context.config.quantize,
                context.plan.family.adapted,
            )
            self._model = attach_adapter(
                base, Path(directory), trainable=True, dropout=self._settings.dropout, dtype=torch.float32
            )
        self._train, kept_back = keep_back(
            context.data().train, context.config.allocate.calibration_sequences, context.config.seed
        )
        self._kept_back = in_batches(kept_back or self._train[:1], self._settings.batch_size, self._model.device)

    def __call__(self, allocation: Allocation) -> float:
        """The loss of ``allocation``; it does not depend on earlier measurements."""
        self._bank.apply(allocation)
        factors = self._factors(precision_by_module(self._groups, allocation))
        for name, parameter in adapter_parameters(self._model).items():
            parameter.data = factors[name].to(parameter.device, torch.float32)
        context = self._context
        stream = batches(self._train, self._settings.batch_size, seed=context.config.seed, device=self._model.device)
        train(
            self._model.train(),
            stream,
            self._settings,
            lambda step, loss: context.cancel.raise_if_cancelled(),
            seed=context.config.seed,
        )
        return validation_loss(self._model, self._kept_back)

    def _factors(self, precisions: dict[str, str]) -> dict[str, torch.Tensor]:
        found = {}
        for name in self._adapted:
            fitted = self._fits.read(name, precisions[name])
            found[adapter_name(name, "A")], found[adapter_name(name, "B")] = fitted.a, fitted.b
        return found


def recovered_objective(loss: RecoveredLoss) -> Objective:
    """The paper's objective: loss after a brief recovery. No trial is stopped early."""

    def measure(proposal: Proposal) -> TrialMeasurement:
        started = time.perf_counter()
        value = loss(proposal.precisions)
        return TrialMeasurement(value, value, proposal.sequences, time.perf_counter() - started)

    return measure


def remembered(measure: MeasureAll, known: KnownTrials) -> MeasureAll:
    """Wrap ``measure`` to return known trials from memory; the search cannot tell the difference."""

    def recall(proposals: Sequence[Proposal]) -> Iterator[TrialMeasurement]:
        found = [known.find(proposal.precisions) for proposal in proposals]
        unknown = [proposal for proposal, trial in zip(proposals, found, strict=True) if trial is None]
        measurements = iter(measure(unknown))
        for proposal, trial in zip(proposals, found, strict=True):
            if trial is not None:
                yield _recalled(proposal, trial)
                continue
            measured = next(measurements)
            if measured.sequences == proposal.sequences:
                known.remember(proposal.precisions, measured.loss, measured.screening_loss)
            yield measured

    return recall


def _recalled(proposal: Proposal, trial: KnownTrial) -> TrialMeasurement:
    screening_loss = trial.loss if trial.screening_loss is None else trial.screening_loss
    if screening_loss > proposal.stop_above:
        return TrialMeasurement(screening_loss, screening_loss, proposal.screening, 0.0)
    return TrialMeasurement(trial.loss, screening_loss, proposal.sequences, 0.0)
