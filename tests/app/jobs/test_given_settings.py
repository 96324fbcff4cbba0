"""What a job was asked to do, to be asked again: no more than differs from the defaults, and the same job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.jobs.given_settings import given_settings
from qpruner_core.config import CompressionConfig

NAMED = {"model": "org/model", "dataset": "ds_prose"}


@pytest.mark.parametrize(
    "settings",
    [
        {"memory_budget": 1_000_000},
        {"memory_budget": 1_000_000, "target": "gguf", "prune": {"ratio": 0.2}, "finetune": {"steps": 0}},
        {"memory_budget": 1_000_000, "preset": "qpruner3", "allocate": {"trials": 12}},
        {"memory_budget": 1_000_000, "preset": "llm-pruner"},
        {"fit": {"memory": 24 * 10**9, "context": 8192}, "runs_on": "cpu", "seed": 7},
        {"fit": {"memory": 24 * 10**9}, "target": "bitsandbytes", "evaluate": {"max_tokens": 4096}},
        {"memory_budget": 5, "target": "gguf", "export": {"formats": ["gguf"]}, "template_date": "2026-01-02"},
    ],
)
def test_what_was_set_is_what_comes_back(settings: dict[str, Any]) -> None:
    config = CompressionConfig.model_validate(NAMED | settings)
    given = given_settings(config.model_dump(mode="json"))
    assert CompressionConfig.model_validate(given) == config
    assert given.keys() <= (NAMED | settings).keys() | {"export"}
    assert given == NAMED | {name: value for name, value in settings.items() if name in given}


def test_settings_of_another_release_come_back_whole() -> None:
    old = {"model": "m", "dataset": "d", "memory_budget": 1, "target": "an engine of the past", "prune": {"x": 1}}
    assert given_settings(old) == old


def test_a_duplicate_is_the_same_job_with_its_labels_priority_and_deadline(client: TestClient, sources: Path) -> None:
    body = {
        "model": str(sources / "model"), "dataset": str(sources / "text.txt"), "target": "bitsandbytes",
        "memory_budget": 400_000, "sequence_length": 64, "labels": {"team": "a"}, "priority": 3, "deadline": 7200,
    }  # fmt: skip
    job = client.post("/jobs", json=body).json()
    given = client.get(f"/jobs/{job['id']}/request").json()
    assert given == body
    again = client.post("/jobs", json=given).json()
    same = ("config", "labels", "priority", "deadline", "memory_budget")
    assert {name: again[name] for name in same} == {name: job[name] for name in same}


def test_nobody_sees_what_another_asked_for(
    client: TestClient, sources: Path, authorize: Callable[..., dict[str, str]]
) -> None:
    body = {"model": str(sources / "model"), "dataset": str(sources / "text.txt"), "memory_budget": 400_000,
            "target": "bitsandbytes", "sequence_length": 64}  # fmt: skip
    job = client.post("/jobs", json=body).json()
    assert client.get(f"/jobs/{job['id']}/request", headers=authorize("other", "admin")).status_code == 404
