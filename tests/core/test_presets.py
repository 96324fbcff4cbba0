from __future__ import annotations

import pytest

from qpruner_core.config import parse_config
from qpruner_core.errors import InvalidConfigError

_RUN = {"model": "m", "dataset": "d.txt", "memory_budget": 1000}


@pytest.mark.parametrize("preset", [["best"], {"name": "best"}, 3, None, "qpruner4"])
def test_a_preset_that_is_none_is_told_by_its_name(preset: object) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        parse_config({**_RUN, "preset": preset})
    assert caught.value.field == "preset"


def test_what_is_set_by_name_wins_over_the_preset() -> None:
    config = parse_config({**_RUN, "preset": "qpruner3", "allocate": {"trials": 7, "precisions": [8]}})
    assert (config.allocate.trials, config.allocate.precisions) == (7, (8,))
    assert (config.allocate.objective, config.allocate.prior) == ("recovered", "none")
