"""A refusal names everything that is wrong, and an estimate needs no dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient


def faults(client: TestClient, body: dict[str, Any], path: str = "/jobs") -> dict[str, str]:
    """Message by field of a refusal."""
    answer = client.post(path, json=body)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    listed = {one["field"]: one["detail"] for one in problem["errors"]}
    return listed or {problem["field"]: f"{problem['detail']} {problem['remedy']}"}


@pytest.mark.parametrize("path", ["/jobs", "/jobs/estimate"])
@pytest.mark.parametrize("dataset", ["ds_nothing", "nothing.txt"])
def test_model_and_dataset_are_both_named_if_neither_is_there(
    client: TestClient, sources: Path, dataset: str, path: str
) -> None:
    there = sources / dataset if dataset.endswith(".txt") else dataset
    body = {
        "model": str(sources / "nothing"),
        "dataset": str(there),
        "memory_budget": "400kB",
        "target": "bitsandbytes",
    }
    assert faults(client, body, path).keys() == {"model", "dataset"}
    assert client.post(path, json=body).json()["code"] == "model_not_found"
    assert faults(client, body | {"model": str(sources / "model")}, path).keys() == {"dataset"}


def test_a_dataset_that_jobs_have_used_and_that_was_deleted_is_named_beside_the_model(
    client: TestClient, sources: Path
) -> None:
    with (sources / "text.txt").open("rb") as file:
        dataset = client.post("/datasets", files={"file": ("text.txt", file)}).json()["id"]
    body = {
        "model": str(sources / "model"), "dataset": dataset, "memory_budget": "400kB", "target": "bitsandbytes",
        "sequence_length": 64,
    }  # fmt: skip
    missing = {"model": str(sources / "nothing")}
    job = client.post("/jobs", json=body)
    assert job.status_code == 202, job.text
    assert faults(client, body | missing).keys() == {"model"}
    assert faults(client, body | {"expected": {"dataset_sha256": "0" * 64}}).keys() == {"dataset"}
    assert client.post(f"/jobs/{job.json()['id']}/cancel").status_code == 200
    assert client.delete(f"/datasets/{dataset}").status_code == 204
    for path in ("/jobs", "/jobs/estimate"):
        assert faults(client, body | missing, path).keys() == {"model", "dataset"}
        assert client.post(path, json=body).json()["code"] == "dataset_not_found"


def test_an_estimate_needs_no_dataset_and_a_job_does(client: TestClient, sources: Path) -> None:
    body = {"model": str(sources / "model"), "memory_budget": "400kB", "target": "bitsandbytes", "sequence_length": 64}
    estimate = client.post("/jobs/estimate", json=body)
    assert estimate.status_code == 200, estimate.text
    with_one = client.post("/jobs/estimate", json=body | {"dataset": str(sources / "text.txt")}).json()
    same = ("feasible", "memory_budget", "predicted_bytes", "smallest_feasible_bytes")
    assert {name: estimate.json()[name] for name in same} == {name: with_one[name] for name in same}
    assert faults(client, body).keys() == {"dataset"}


def test_values_out_of_range_are_refused_in_plain_words(client: TestClient) -> None:
    body = {
        "model": "m", "dataset": "", "memory_budget": "1MB", "target": "vllm", "seed": "x", "sequence_length": 1.5,
        "prune": {"ratio": 2}, "allocate": {"trials": 0}, "finetune": {"learning_rate": "fast"}, "evaluate": 3,
    }  # fmt: skip
    said = faults(client, body)
    assert said["dataset"] == "It is empty."
    assert said["target"].startswith("Unknown value. Give 'gguf'")
    assert said["seed"] == said["sequence_length"] == "Not a whole number. Give one such as 8."
    assert said["prune.ratio"] == "It is too large. Give 0.9 or less."
    assert said["allocate.trials"] == "It is too small. Give 1 or more."
    assert said["finetune.learning_rate"] == "Not a number. Give one such as 0.5."
    assert said["evaluate"].startswith("Not a group of settings.")
