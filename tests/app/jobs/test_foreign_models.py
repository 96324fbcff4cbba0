"""Of another tenant's uploaded model, not even its existence is revealed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from transformers import LlamaConfig

from app.database import utc_now
from app.ids import new_id
from app.jobs.inspection import Asker, Inspector
from app.uploads.models import Upload
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import ModelNotFoundError
from qpruner_core.source_policy import SourcePolicy

Headers = Callable[..., dict[str, str]]
NO_DATASET = "ds_00000000000000000000000000"


@pytest.fixture
def model_id(sessions: sessionmaker[Session]) -> str:
    """A model of the tenant "owner" that is ready."""
    config = LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    now = utc_now()
    row = Upload(
        id=new_id("md"), tenant="owner", name="secret", status="ready", bytes=10, part_bytes=2**20, created_at=now,
        used_at=now, facts={"config": config.to_dict(), "weight_bytes": 12345, "revision": None},
    )  # fmt: skip
    with sessions.begin() as session:
        session.add(row)
        return row.id


def test_a_foreign_model_is_answered_as_one_that_does_not_exist(
    client: TestClient, model_id: str, authorize: Headers
) -> None:
    own, other = authorize("owner", "submit"), authorize("other", "submit")
    short = client.post("/datasets", files={"file": ("a.txt", b"Few words.")}, headers=other).json()["id"]
    body: dict[str, Any] = {"memory_budget": "1kB", "target": "gguf", "dataset": NO_DATASET}
    requests = [
        body,
        body | {"dataset": short},
        body | {"sequence_length": 100_000, "memory_budget": "1GB"},
        body | {"allocate": {"precisions": ["Q4_K"]}, "prune": {"ratio": 0.9}},
        {"memory_budget": "1kB", "target": "gguf"},
    ]

    def answers(asked: str) -> list[tuple[int, str]]:
        said = []
        for request in requests:
            for path in ("/jobs", "/jobs/estimate"):
                answer = client.post(path, json=request | {"model": asked}, headers=other)
                document = answer.json() | {"request_id": ""}
                said.append((answer.status_code, str(document).replace(asked, "ID")))
        return said

    known = client.post("/jobs", json=body | {"model": model_id}, headers=own).json()
    assert {fault["field"] for fault in known["errors"]} == {"memory_budget", "dataset"}  # its owner learns both
    foreign = answers(model_id)
    assert foreign == answers(new_id("md"))
    codes = {status for status, _ in foreign}
    assert codes == {422}


def test_an_inspector_that_knows_a_model_tells_only_its_owner(application: FastAPI, model_id: str) -> None:
    inspector: Inspector = application.state.inspector
    config = CompressionConfig(model=model_id, dataset=NO_DATASET, memory_budget=200_000, sequence_length=64)
    assert inspector.check(config, SourcePolicy(), Asker("owner"), check_dataset=False).feasible
    with pytest.raises(ModelNotFoundError):
        inspector.check(config, SourcePolicy(), Asker("other"), check_dataset=False)
