from __future__ import annotations

import pickle

import pytest

from qpruner_core.errors import BudgetInfeasibleError, InvalidConfigError, QPrunerError


@pytest.mark.parametrize(
    "error",
    [
        InvalidConfigError("It is wrong.", field="prune.ratio", remedy="Mend it."),
        BudgetInfeasibleError("It is too little.", smallest_feasible_bytes=7, remedy="Ask for 7."),
    ],
)
def test_an_error_from_another_process_says_the_same(error: QPrunerError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert again.__dict__ == error.__dict__
