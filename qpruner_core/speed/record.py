"""Known speed of a machine: its measurement, and the times of earlier stages; stored in a file."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median

from pydantic import Field, ValidationError

from qpruner_core.compute.config import ComputeDtype
from qpruner_core.events import StageName
from qpruner_core.one_run import alone_if_free
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.machine_speed import MachineSpeed
from qpruner_core.strict import StrictModel

_LOG = logging.getLogger(__name__)
_KEPT = 20
"""Stored observations per stage."""
_COUNTED = 5
_ALIKE = 8.0
"""Stages whose lengths differ by no more than this factor correct each other."""
_LARGEST_CORRECTION = 8.0
_BUSY = 0.5
"""Share of the processors that other work may take while a speed is measured."""


class Observation(StrictModel):
    """A stage that ran from beginning to end: seconds ``expected`` by the machine's speed alone, and ``measured``."""

    expected: float = Field(gt=0)
    measured: float = Field(gt=0)


class SpeedRecord(StrictModel):
    """A machine's speed, and the latest stages that ran on it, the newest last. ``busy``: whether other work took so
    much of the machine that the speed has to be measured again."""

    speed: MachineSpeed
    busy: bool = False
    observations: dict[StageName, tuple[Observation, ...]] = Field(default_factory=dict)

    def correction(self, stage: StageName, expected: float) -> float:
        """Factor for the ``expected`` seconds of ``stage``: the median of measured over expected in the latest stages
        of about that length, by its logarithm. One that took exactly as long as expected is added, so that a single run
        on a busy machine counts half as much as several alike."""
        alike = [
            math.log(observed.measured / observed.expected)
            for observed in self.observations.get(stage, ())
            if 1 / _ALIKE <= observed.expected / max(expected, 1e-9) <= _ALIKE
        ]
        factor = math.exp(median([0.0, *alike[-_COUNTED:]]))
        return min(max(factor, 1 / _LARGEST_CORRECTION), _LARGEST_CORRECTION)

    def observed(self, found: Mapping[StageName, Observation]) -> SpeedRecord:
        """This record with the observations that one run has ``found``."""
        observations = dict(self.observations)
        for stage, observation in found.items():
            observations[stage] = (*observations.get(stage, ()), observation)[-_KEPT:]
        return self.model_copy(update={"observations": observations})


def stored_record(cache_dir: Path, key: str) -> SpeedRecord | None:
    """The record of the machine of ``key``, if a valid one is stored."""
    with suppress(OSError, ValidationError):
        record = SpeedRecord.model_validate_json(_path(cache_dir, key).read_bytes())
        return record if record.speed.key == key else None
    return None


def store_record(cache_dir: Path, record: SpeedRecord) -> None:
    """Store ``record`` in place of the previous one; an unwritable cache is not an error."""
    path = _path(cache_dir, record.speed.key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(record.model_dump_json())
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)


def record_of_this_machine(policy: SourcePolicy, compute_dtype: ComputeDtype = "auto") -> SpeedRecord | None:
    """Known speed of this machine, with the threads of this process and the matrix products of ``compute_dtype``.

    An unknown speed is measured, in a few seconds, and stored in the cache directory. One that was measured on a busy
    machine holds until the machine is found idle, and is then measured again. ``None`` if it cannot be measured, which
    is logged, and while another thread of this process computes.
    """
    from qpruner_core.compute.choice import choose_compute
    from qpruner_core.resources import best_device
    from qpruner_core.speed.machine import identity_key, machine_identity

    products = choose_compute(compute_dtype, best_device(), policy.cache_dir).products
    key = identity_key(machine_identity(products))
    record, busy = stored_record(policy.cache_dir, key), machine_is_busy()
    if record is not None and (busy or not record.busy):
        return record
    with alone_if_free() as free:
        speed = _measured(products) if free else None
    if speed is None:
        return record
    record = SpeedRecord(speed=speed, busy=busy)
    store_record(policy.cache_dir, record)
    return record


def machine_is_busy() -> bool:
    """Whether the load of the last minute is more than half of the machine's processors."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return False
    return load > _BUSY * (os.cpu_count() or 1)


def _measured(products: str) -> MachineSpeed | None:
    try:
        from qpruner_core.speed.measure import measure_machine  # and all stages with it

        return measure_machine(products)
    except Exception as error:  # noqa: BLE001 - a run whose time is not known is as good
        _LOG.warning("The speed of this machine cannot be measured, so no times are expected: %s", error)
        _LOG.debug("It was measured to here", exc_info=True)
        return None


def _path(cache_dir: Path, key: str) -> Path:
    return cache_dir / "speed" / f"{key}.json"
