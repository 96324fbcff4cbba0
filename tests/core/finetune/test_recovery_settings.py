"""Which recovery a run has, and what follows from it."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.finetune.config import FinetuneConfig, Recovery, recovery_parts
from qpruner_core.finetune.phase import phases
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.registry import TARGETS, bind_target


@pytest.mark.parametrize("recovery", ["none", "scales+merge", "adapter+scales", "merge+adapter", ["merge"], None, ""])
def test_a_recovery_that_makes_no_sense_is_refused(recovery: object) -> None:
    with pytest.raises(ValidationError, match="recovery"):
        FinetuneConfig.model_validate({"recovery": recovery})


@pytest.mark.parametrize("target", TARGETS)
def test_adapters_count_and_are_initialised_only_where_they_ship(target: str) -> None:
    quantize = QuantizeConfig(lora_rank=4, initialisation="loftq")
    for recovery in get_args(Recovery):
        bound = bind_target(target, quantize, AllocateConfig(), FinetuneConfig(recovery=recovery))  # type: ignore[arg-type]
        assert bound.adapter_rank == (4 if recovery == "adapter" else 0)
        assert (bound.quantize == quantize) == (recovery == "adapter")
        assert bound.recovery == recovery_parts(recovery)


def test_by_itself_only_bitsandbytes_has_adapters() -> None:
    quantize = QuantizeConfig()
    found = {name: bind_target(name, quantize, AllocateConfig(), FinetuneConfig()).adapter_rank for name in TARGETS}
    assert {name for name, rank in found.items() if rank} == {"bitsandbytes"}


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_all_steps_are_divided_among_the_parts(steps: int) -> None:
    settings = FinetuneConfig(steps=steps)
    found = phases(settings, ("merge", "scales"))
    assert sum(phase.settings.steps for phase in found) == steps
    assert all(phase.settings.steps > 0 for phase in found)
    for phase in found:
        rate = settings.scale_learning_rate if phase.part == "scales" else settings.learning_rate
        assert phase.settings.learning_rate == rate
