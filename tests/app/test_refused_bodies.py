"""A refused body is cheap: to look at, and to answer."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.problems import MOST_FAULTS
from app.settings import Settings
from tests.conftest import ON_SQLITE

LONGEST_ANSWER = 64_000
BASE = {"model": "m", "dataset": "d", "memory_budget": 1000}


def refused(client: TestClient, body: bytes, *, path: str = "/jobs/estimate") -> dict[str, Any]:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413, 422), answer.text[:500]
    assert len(answer.content) < LONGEST_ANSWER
    problem: dict[str, Any] = answer.json()
    return problem


WRONG = {
    "wrong entries": BASE | {"allocate": {"precisions": [1] * 200_000}},
    "unknown settings": BASE | {f"s{number}": 1 for number in range(60_000)},
    "bad labels": BASE | {"labels": {f"k {number}": 1 for number in range(50_000)}},
    "nested": BASE | {"prune": [[[{}] * 100] * 100] * 20},
}


@ON_SQLITE
@pytest.mark.parametrize("name", WRONG)
def test_a_body_of_many_wrong_entries_is_refused_before_any_is_looked_at(client: TestClient, name: str) -> None:
    body = json.dumps(WRONG[name], separators=(",", ":")).encode()
    assert 50_000 < len(body) < 2**20
    begun = time.process_time()
    problem = refused(client, body)
    assert problem["code"] == "body_too_complex"
    assert time.process_time() - begun < 0.5  # processor time of this process: 5 s before


def test_of_the_faults_some_are_shown_and_the_others_are_counted(client: TestClient) -> None:
    problem = refused(client, json.dumps(BASE | {"allocate": {"precisions": [1] * 9_000}}).encode())
    assert problem["code"] == "invalid_config"
    assert len(problem["errors"]) == MOST_FAULTS
    assert problem["more_errors"] == 9_000 - MOST_FAULTS
    few = refused(client, json.dumps(BASE | {"prune": {"ratio": 2}, "seed": "x"}).encode())
    assert (len(few["errors"]), few["more_errors"]) == (2, 0)


@ON_SQLITE
@pytest.mark.parametrize(
    "body",
    [
        BASE | {"x" * 900_000: 1},
        BASE | {"model": "m" * 900_000},
        BASE | {"dataset": "ds_" + "d" * 900_000},
        BASE | {"target": "t" * 900_000},
        BASE | {"memory_budget": "9" * 900_000},
        BASE | {"deadline": "9" * 900_000},
        BASE | {"labels": {"k" * 900_000: "v"}},
        BASE | {"prune": {"criterion": "c" * 900_000}},
        BASE | {"allocate": {"precisions": ["p" * 900_000]}},
    ],
    ids=lambda body: next(
        (str(key)[:9] for key, value in body.items() if key not in BASE or len(str(value)) > 20), "x"
    ),
)
def test_what_a_body_says_is_not_said_back_at_any_length(client: TestClient, body: dict[str, Any]) -> None:
    refused(client, json.dumps(body).encode())
    refused(client, json.dumps(body).encode(), path="/jobs")


def test_a_long_path_and_a_long_query_are_answered_shortly(client: TestClient) -> None:
    for path in ("/jobs/" + "x" * 50_000, "/datasets/" + "x" * 50_000, "/jobs?" + "status=x&" * 5_000):
        answer = client.get(path)
        assert answer.status_code in (404, 422)
        assert len(answer.content) < LONGEST_ANSWER


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=20), inner, max_size=30),
    max_leaves=100,
)


@ON_SQLITE
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(["prune", "allocate", "finetune", "labels", "fit", "deadline", "priority"]), value=JSON)
def test_no_refused_body_is_answered_at_length(client: TestClient, part: str, value: object) -> None:
    answer = client.post("/jobs/estimate", json=BASE | {part: value})
    assert answer.status_code < 500
    assert len(answer.content) < LONGEST_ANSWER


def test_a_form_of_a_dataset_may_have_any_commas(client: TestClient, settings: Settings) -> None:
    table = b"text\n" + b'"a, b, c, d, e, f, g, h"\n' * 5_000
    assert client.post("/datasets", files={"file": ("table.csv", table)}).status_code == 201
