"""Trials of one search measured on several machines, which exchange proposals and measurements.

A proposal depends on no other of its batch, and measurements are told to the search in the order of the proposals, so
it goes the way that it goes on one machine. That a helper gives the same loss, bit for bit, is left to machines that
are alike: :func:`machine_of` digests what a loss follows from besides the proposal.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

from qpruner_core.allocate.objectives import MeasureAll, Objective
from qpruner_core.resources import best_device
from qpruner_core.search.exchange import TrialExchange, TrialHelper
from qpruner_core.search.trial import Proposal, TrialMeasurement
from qpruner_core.stage import StageContext
from qpruner_core.versions import recorded_versions

_PAUSE_SECONDS = 0.25
"""Between looks at what others have measured, while there is nothing left to do here."""


def shared(measure: Objective, exchange: TrialExchange, context: StageContext) -> MeasureAll:
    """``measure``, and what others measure through ``exchange`` meanwhile; a single proposal is not worth offering."""
    machine = machine_of(context)

    def measure_all(proposals: Sequence[Proposal]) -> Iterator[TrialMeasurement]:
        if len(proposals) < 2:
            yield from map(measure, proposals)
            return
        exchange.offer(proposals, machine)
        by_index = {proposal.index: proposal for proposal in proposals}
        done: dict[int, TrialMeasurement] = {}
        for proposal in proposals:
            while proposal.index not in done:
                context.cancel.raise_if_cancelled()
                turn = exchange.turn()
                done.update(turn.measured)
                if turn.measure is not None:
                    done[turn.measure] = measure(by_index[turn.measure])
                    exchange.tell(turn.measure, done[turn.measure])
                elif not turn.measured:
                    time.sleep(_PAUSE_SECONDS)
            yield done.pop(proposal.index)

    return measure_all


def help_out(measure: MeasureAll, helper: TrialHelper) -> NoReturn:
    """Measure what ``helper`` asks for until it raises, or ends the process."""
    while True:
        proposal = helper.next()
        (measurement,) = measure([proposal])
        helper.tell(proposal.index, measurement)


def machine_of(context: StageContext) -> str:
    """Digest of the stages before the search, and of what computes: versions, processor, threads and products."""
    compute = context.compute
    parts = [context.store.key("score"), recorded_versions(), compute.products, compute.processor, compute.threads]
    return hashlib.sha256(json.dumps([*parts, best_device().type], sort_keys=True).encode()).hexdigest()
