from __future__ import annotations

import pytest
import torch

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.fitting.precision_bank import PrecisionBank
from qpruner_core.measure.divergence import Divergence
from qpruner_core.measure.sensitivity import SensitivityTable, divergence_sensitivity, lowest_context
from qpruner_core.mixed.groups import precision_groups
from qpruner_core.models.families import family_of
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.registry import bind_target
from tests.core.small_models import small_model

IDS = torch.randint(0, 97, (2, 16), generator=torch.Generator().manual_seed(0))


def parts(granularity: str = "layer") -> tuple[PrecisionBank, Divergence]:
    model = small_model("llama", dtype=torch.bfloat16)
    family = family_of(model)
    settings = AllocateConfig.model_validate({"granularity": granularity})
    target = bind_target("bitsandbytes", QuantizeConfig(), settings)
    groups = precision_groups(model, family, target)
    bank = PrecisionBank(model, groups, kinds=target.precisions, capacity=10**9)
    return bank, Divergence(model, family, IDS, capacity=10**8)


def loss(bank: PrecisionBank, divergence: Divergence, allocation: list[str]) -> float:
    bank.apply(allocation)
    return divergence()


@pytest.mark.parametrize("granularity", ["layer", "module"])
def test_each_group_is_measured_with_the_others_in_sixteen_bits(granularity: str) -> None:
    bank, divergence = parts(granularity)
    found = divergence_sensitivity(bank, divergence, "highest", lambda *_: None)
    for index, group in enumerate(bank.groups):
        for option in group.options:
            alone = [option if other == index else "bf16" for other in range(len(bank.groups))]
            assert found[index][option] == loss(bank, divergence, alone)
    assert all(losses["bf16"] == 0 for losses in found)


def test_each_group_is_measured_with_the_others_at_their_lowest() -> None:
    bank, divergence = parts()
    found = divergence_sensitivity(bank, divergence, "lowest", lambda *_: None)
    lowest = [next(iter(group.options)) for group in bank.groups]
    for index in range(len(bank.groups)):
        raised = ["bf16" if other == index else option for other, option in enumerate(lowest)]
        gained = loss(bank, divergence, lowest) - loss(bank, divergence, raised)
        assert found[index][lowest[index]] == max(gained, 0.0)


def test_the_mean_is_of_both() -> None:
    bank, divergence = parts()
    highest, lowest, mean = (
        divergence_sensitivity(bank, divergence, context, lambda *_: None) for context in ("highest", "lowest", "mean")
    )
    for one, other, both in zip(highest, lowest, mean, strict=True):
        assert both == {option: (one[option] + other[option]) / 2 for option in one}


def test_a_group_that_breaks_the_model_alone_stays_whole_in_the_lowest_context() -> None:
    bank, _ = parts()
    harmless: SensitivityTable = [{"nf4": 0.1, "int8": 0.08, "bf16": 0.0} for _ in bank.groups]
    assert lowest_context(bank, harmless) == [next(iter(group.options)) for group in bank.groups]
    harmless[2] = {"nf4": 5.0, "int8": 0.01, "bf16": 0.0}
    assert lowest_context(bank, harmless)[1:4] == ["nf4", "bf16", "nf4"]


def test_the_model_has_sixteen_bits_afterwards() -> None:
    bank, divergence = parts()
    divergence_sensitivity(bank, divergence, "mean", lambda *_: None)
    assert divergence() == pytest.approx(0, abs=1e-7)
