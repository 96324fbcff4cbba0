"""Many looks at models at once."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from app.jobs import inspection
from app.jobs.inspection import check_run, estimate_run
from app.problems import Problem
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import HubUnavailableError
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.speed.record import SpeedRecord
from tests.made_up_speed import made_up_speed

SPEED = SpeedRecord(speed=made_up_speed())


@pytest.fixture
def config(sources: Path) -> CompressionConfig:
    """A run that can be done."""
    return CompressionConfig(
        model=str(sources / "model"), dataset=str(sources / "text.txt"), memory_budget=400_000, sequence_length=64
    )


def test_looks_at_once_all_succeed_and_leave_torch_as_it_was(config: CompressionConfig) -> None:
    before = (torch.nn.Module.register_parameter, torch.nn.Module.register_buffer, torch.empty, torch.nn.init.normal_)
    with ThreadPoolExecutor(8) as threads:
        looks = [
            threads.submit(estimate_run, config, SourcePolicy(), check_dataset=True, speed=SPEED) for _ in range(8)
        ]
        checks = [threads.submit(check_run, config, SourcePolicy(), check_dataset=False) for _ in range(8)]
        estimates = [submitted.result() for submitted in looks]
        assert {look.result().memory_budget for look in checks} == {400_000}
    assert len({estimate.model_dump_json() for estimate in estimates}) == 1
    after = (torch.nn.Module.register_parameter, torch.nn.Module.register_buffer, torch.empty, torch.nn.init.normal_)
    assert after == before
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"


def test_a_hub_that_is_slow_for_one_makes_nobody_else_wait(config: CompressionConfig, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(2) as threads:
        silent.settimeout(20)
        policy = SourcePolicy(hub_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", cache_dir=tmp_path)
        elsewhere = config.model_copy(update={"model": "acme/slow"})
        slow = threads.submit(check_run, elsewhere, policy, check_dataset=False)
        connection, _ = silent.accept()
        try:
            check_run(config, policy, check_dataset=True)
            assert not slow.done()
        finally:
            silent.close()
            connection.close()
        with pytest.raises(HubUnavailableError):
            slow.result()


def test_more_looks_than_threads_can_be_spared_for_are_refused(
    config: CompressionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_LOOKS", threading.BoundedSemaphore(1))
    monkeypatch.setattr(inspection, "_PATIENCE_SECONDS", 0.01)
    with inspection._one_look(), pytest.raises(Problem) as caught:
        check_run(config, SourcePolicy(), check_dataset=False)
    assert (caught.value.status_code, caught.value.code) == (503, "busy")
    assert caught.value.headers == {"Retry-After": "10"}
    check_run(config, SourcePolicy(), check_dataset=False)
