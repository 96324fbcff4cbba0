"""What a target cannot serve is refused before the first stage, with the setting at fault and a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qpruner_core import check, estimate, parse_config
from qpruner_core.errors import BudgetInfeasibleError, UserError
from qpruner_core.targets.registry import TARGETS
from tests.unservable import UNSERVABLE, Unservable, write_model


def _ask(answer: Any, model: Path, settings: dict[str, Any]) -> None:
    values = {"model": str(model), "dataset": "-", "memory_budget": 60_000, "sequence_length": 16, **settings}
    answer(parse_config(values), check_dataset=False)


@pytest.mark.parametrize("answer", [check, estimate], ids=["check", "estimate"])
@pytest.mark.parametrize("case", UNSERVABLE.values(), ids=UNSERVABLE)
def test_what_a_target_cannot_serve_is_refused_with_field_and_remedy(
    case: Unservable, answer: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        _ask(answer, write_model(case, tmp_path), case.settings)
    assert (caught.value.code, caught.value.field) == (case.code, case.at)
    assert case.says in f"{caught.value.message} {caught.value.remedy}"
    assert caught.value.remedy


@pytest.mark.parametrize("target", TARGETS)
def test_a_budget_below_the_targets_smallest_is_refused_with_that_and_the_smallest_is_met(
    target: str, tiny_llama: Path
) -> None:
    settings = {"target": target, "prune": {"ratio": 0.2, "protect_first": 1, "protect_last": 1}}
    with pytest.raises(BudgetInfeasibleError) as caught:
        _ask(check, tiny_llama, settings | {"memory_budget": 1000})
    smallest = caught.value.smallest_feasible_bytes
    assert f"of the target {target} is {smallest} bytes" in caught.value.message
    assert caught.value.field == "memory_budget"
    _ask(check, tiny_llama, settings | {"memory_budget": smallest})
    with pytest.raises(BudgetInfeasibleError):
        _ask(check, tiny_llama, settings | {"memory_budget": (smallest or 0) - 1})
