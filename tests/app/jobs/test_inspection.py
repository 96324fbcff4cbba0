"""Many looks at models at once, and what need not be looked at again."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from transformers import AutoModelForCausalLM

from app.jobs.inspection import Asker, Inspector, Places
from app.problems import Problem
from qpruner_core import known_models
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import CorruptModelError, HubUnavailableError
from qpruner_core.models import reshape
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.record import SpeedRecord
from tests.made_up_speed import made_up_speed
from tests.tiny_model import build_tiny_llama

SPEED = SpeedRecord(speed=made_up_speed())
US = Asker("us")


@pytest.fixture
def config(sources: Path) -> CompressionConfig:
    """A run that can be done."""
    return CompressionConfig(
        model=str(sources / "model"), dataset=str(sources / "text.txt"), memory_budget=400_000, sequence_length=64
    )


@pytest.fixture
def inspector(application: FastAPI) -> Inspector:
    """The application's inspector."""
    found: Inspector = application.state.inspector
    return found


def test_looks_at_once_all_succeed_and_leave_torch_as_it_was(inspector: Inspector, config: CompressionConfig) -> None:
    before = (torch.nn.Module.register_parameter, torch.nn.Module.register_buffer, torch.empty, torch.nn.init.normal_)
    askers = [Asker(f"tenant-{number}") for number in range(8)]

    def estimate(asker: Asker) -> str:
        return inspector.estimate(config, SourcePolicy(), asker, check_dataset=True, speed=SPEED).model_dump_json()

    def check(asker: Asker) -> int:
        return inspector.check(config, SourcePolicy(), asker, check_dataset=False).memory_budget

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(estimate, askers))) == 1
        assert set(threads.map(check, askers)) == {400_000}
    after = (torch.nn.Module.register_parameter, torch.nn.Module.register_buffer, torch.empty, torch.nn.init.normal_)
    assert after == before
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"


def test_a_hub_that_is_slow_for_one_makes_nobody_else_wait(
    inspector: Inspector, config: CompressionConfig, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(2) as threads:
        silent.settimeout(20)
        policy = SourcePolicy(hub_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", cache_dir=tmp_path)
        elsewhere = config.model_copy(update={"model": "acme/slow"})
        slow = threads.submit(inspector.check, elsewhere, policy, US, check_dataset=False)
        connection, _ = silent.accept()
        try:
            inspector.check(config, policy, US, check_dataset=True)
            assert not slow.done()
        finally:
            silent.close()
            connection.close()
        with pytest.raises(HubUnavailableError):
            slow.result()


def test_a_tenant_has_its_share_of_the_places_and_the_others_have_theirs() -> None:
    places = Places(most=3, share=2, patience_seconds=0.01)
    with places.one_of("us"), places.one_of("us"):
        with pytest.raises(Problem) as caught, places.one_of("us"):
            pass
        assert (caught.value.status_code, caught.value.code) == (503, "busy")
        assert caught.value.headers == {"Retry-After": "10"}
        assert caught.value.detail.startswith("2 of your requests")
        with places.one_of("them"):
            with pytest.raises(Problem) as caught, places.one_of("others"):
                pass
            assert caught.value.detail.startswith("3 other requests")
        with places.one_of("others"):
            pass
    with places.one_of("us"):
        pass


def test_whoever_waits_for_a_place_gets_it_and_no_more_wait_than_may_look() -> None:
    places = Places(most=1, share=1, patience_seconds=20)
    entered, leave = threading.Event(), threading.Event()

    def look() -> None:
        with places.one_of("us"):
            entered.set()
            leave.wait(20)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(look)
        assert entered.wait(20)
        second = threads.submit(look)
        while not places.waiting("us"):
            pass
        with pytest.raises(Problem), places.one_of("us"):
            pass
        leave.set()
        first.result()
        second.result()


def test_a_second_submit_of_a_model_builds_none_and_another_process_does_not_look_at_it_again(
    client: TestClient, application: FastAPI, config: CompressionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, looked_at = Mock(wraps=AutoModelForCausalLM.from_config), Mock(wraps=known_models.inspect_found)
    monkeypatch.setattr(AutoModelForCausalLM, "from_config", built)
    monkeypatch.setattr(known_models, "inspect_found", looked_at)
    body = config.model_dump(mode="json", include={"model", "dataset", "memory_budget", "sequence_length"})
    reshape._shared.cache_clear()
    assert client.post("/jobs", json=body).status_code == 202
    assert built.called
    assert looked_at.called
    built.reset_mock()
    looked_at.reset_mock()
    reshape._shared.cache_clear()
    assert client.post("/jobs", json=body | {"seed": 1, "labels": {"a": "b"}}).status_code == 202
    assert not built.called
    application.state.inspector = Inspector(application.state.session_factory, application.state.settings)
    assert client.post("/jobs", json=body).status_code == 202
    assert not looked_at.called


def test_a_model_whose_files_changed_is_looked_at_again(inspector: Inspector, tmp_path: Path) -> None:
    build_tiny_llama(tmp_path / "model", train_steps=0)
    config = CompressionConfig(model=str(tmp_path / "model"), dataset="ds_x", memory_budget=400_000, sequence_length=64)
    policy = SourcePolicy()
    inspector.check(config, policy, US, check_dataset=False)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CorruptModelError, match="truncated"):
        inspector.check(config, policy, US, check_dataset=False)
