"""What is declared of precisions without torch is what their objects say."""

from __future__ import annotations

import pytest

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.precision_names import PRECISIONS
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets import config
from qpruner_core.targets.registry import TARGETS, bind_target


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_the_precisions_that_are_declared_for_it_in_the_size_that_is_declared(
    name: config.TargetName,
) -> None:
    target = bind_target(name, QuantizeConfig(), AllocateConfig())
    assert set(target.precisions) == set(config.PRECISIONS[name])
    assert set(target.default_options) <= set(config.PRECISIONS[name])
    for own, precision in target.precisions.items():
        assert precision.name == own
        assert precision.bits_per_weight == PRECISIONS[own].bits_per_weight
        assert precision.lossless == (PRECISIONS[own].bits_per_weight == 16)


def test_precisions_are_declared_by_rising_size() -> None:
    sizes = [declared.bits_per_weight for declared in PRECISIONS.values()]
    assert sizes == sorted(sizes)
    assert set().union(*(declared.targets for declared in PRECISIONS.values())) == set(TARGETS)
