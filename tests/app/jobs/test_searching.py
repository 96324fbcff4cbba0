"""Jobs are found by words in what they are and were called."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.app.jobs.conftest import MakeJob


@pytest.fixture
def found(client: TestClient) -> Any:
    """A function from what is searched for to the ids of the jobs that are found."""

    def search(text: str, **filters: Any) -> list[str]:
        answer = client.get("/jobs", params={"q": text, **filters})
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["jobs"]]

    return search


def test_each_word_is_part_of_id_model_dataset_or_label_in_any_case(found: Any, make_job: MakeJob) -> None:
    smol = make_job(model="org/SmolLM2-135M@main", labels={"team": "Search", "env": "prod"})
    llama = make_job("failed", model="org/Llama-3", dataset="ds_poems", labels={"team": "chat", "Straße": "Zürich"})
    make_job(model="org/SmolLM2-135M@main", tenant="other")
    assert found("smollm") == [smol]
    assert found("ORG") == [llama, smol]
    assert found("org poems") == [llama]
    assert found("org nothing") == []
    assert found(smol[8:]) == [smol]
    assert found("zürich") == [llama]
    assert found("  ") == [llama, smol]
    assert found("org", status="failed") == [llama]


def test_key_and_value_of_a_label_belong_together(found: Any, make_job: MakeJob) -> None:
    first = make_job(labels={"team": "search", "env": "chat"})
    second = make_job(labels={"team": "chat"})
    assert found("team:search") == [first]
    assert found("team:sea") == [first]
    assert found("team:chat") == [second]
    assert found("chat") == [second, first]


@pytest.mark.parametrize("word", ["%", "_", "\\", "'", '"', "a:%", "$.x:1"])
def test_what_means_something_to_the_database_means_itself(word: str, found: Any, make_job: MakeJob) -> None:
    make_job(model="plain", dataset="text", labels={})
    has_it = make_job(model=f"x{word}y")
    others = [job for job in found(word) if job != has_it]
    assert has_it in found(word)
    assert word == "_" or others == []  # every id has one


def test_a_search_is_bounded_and_printable(client: TestClient) -> None:
    for text in ("x" * 201, "a\x00b"):
        assert client.get("/jobs", params={"q": text}).json()["code"] == "invalid_request"
