"""Expected times of one run, and corrections for the next from its stages."""

from __future__ import annotations

from functools import partial

from qpruner_core.config import CompressionConfig
from qpruner_core.events import Event, EventCallback, MachineSpeedKnown, StageFinished, StageName, TimesExpected
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.data_amounts import DataAmounts
from qpruner_core.speed.record import Observation, record_of_this_machine, store_record, stored_record
from qpruner_core.speed.stage_times import expected_seconds
from qpruner_core.stage import RunPlan
from qpruner_core.stage_store import StageStore


class RunTimes:
    """An event callback that forwards to another, sends it the expected times, and records how long stages took.

    Only stages that this run began and ended itself count: one that resumes an earlier run, or follows one that was not
    computed, has less to do, or more. ``expected``: seconds of each stage; empty if the machine's speed cannot be
    measured.
    """

    def __init__(
        self, config: CompressionConfig, plan: RunPlan, data: DataAmounts, policy: SourcePolicy, store: StageStore,
        on_event: EventCallback,
    ) -> None:  # fmt: skip
        self._policy = policy
        self._on_event = on_event
        self._counts = not store.root.is_dir() or not any(store.root.iterdir())
        self._alone: dict[StageName, float] = {}
        self.expected: dict[StageName, float] = {}
        self._record = record_of_this_machine(policy, config.compute_dtype)
        if self._record is None:
            return
        expected = partial(
            expected_seconds, config, plan.dense_config, plan.family, self._record,
            ratio=plan.ratio, data=data, target=plan.target,
        )  # fmt: skip
        self._alone = expected(corrected=False)
        on_event(MachineSpeedKnown(record=self._record.model_dump(mode="json")))
        self.expected = expected()
        on_event(TimesExpected(seconds=self.expected))

    def __call__(self, event: Event) -> None:
        """Forward ``event``."""
        self._on_event(event)
        if isinstance(event, StageFinished) and self._record is not None:
            self._counts &= not event.resumed
            if self._counts:
                self._remember(event.stage, event.seconds)

    def _remember(self, stage: StageName, seconds: float) -> None:
        assert self._record is not None
        observation = Observation(expected=max(self._alone[stage], 1e-3), measured=max(seconds, 1e-3))
        stored = stored_record(self._policy.cache_dir, self._record.speed.key)  # other runs add to it too
        self._record = (stored or self._record).observed({stage: observation})
        store_record(self._policy.cache_dir, self._record)
        self._on_event(MachineSpeedKnown(record=self._record.model_dump(mode="json")))
