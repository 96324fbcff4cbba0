"""What a user gets through a signed URL is the model that was in memory before export."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from app.settings import Settings
from qpruner_client import Client
from qpruner_core.loading import held_bytes, load_compressed
from qpruner_core.models import resolve_model
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage_store import file_sha256
from tests.app.live_service import run_service
from tests.engines import llama_cpp
from tests.model_in_memory import IDS, LOGITS_SCRIPT, compress_in_memory
from tests.tiny_model import build_tiny_llama, write_text_dataset
from worker.artifacts import pack_directory
from worker.job_run import Parts
from worker.supervisor import Supervisor

TINY_JOB: dict[str, Any] = {
    "target": "gguf", "memory_budget": "180kB", "sequence_length": 64,
    "prune": {"ratio": 0.2, "protect_first": 1, "protect_last": 1, "calibration_sequences": 4},
    "allocate": {"trials": 3, "random_seeds": 1, "calibration_sequences": 2},
    "finetune": {"steps": 2}, "evaluate": {"max_tokens": 512, "generated_tokens": 2},
}  # fmt: skip


@pytest.mark.service
def test_a_tiny_checkpoint_through_a_signed_url_gives_the_logits_of_the_model_in_memory(tmp_path: Path) -> None:
    check_round_trip(build_tiny_llama(tmp_path / "tiny", train_steps=20), tmp_path)


@pytest.mark.slow
@pytest.mark.service
def test_smollm2_through_a_signed_url_gives_the_logits_of_the_model_in_memory(tmp_path: Path) -> None:
    check_round_trip(resolve_model("demo:smollm2-135m-instruct", SourcePolicy()).directory, tmp_path)


@pytest.mark.service
@pytest.mark.timeout(300)
def test_the_gguf_file_of_a_job_through_its_signed_url_is_read_by_our_reader(gguf_file: GgufOfJob) -> None:
    model, tokenizer = load_compressed(gguf_file.path)
    assert held_bytes(gguf_file.path, model) == gguf_file.measured_bytes
    assert held_bytes(gguf_file.path, model) <= gguf_file.memory_budget
    assert len(tokenizer("The with statement")["input_ids"]) > 0
    with torch.no_grad():
        assert model(IDS).logits.isfinite().all()


@pytest.mark.service
@pytest.mark.timeout(300)
def test_the_gguf_file_of_a_job_through_its_signed_url_answers_a_chat_in_llama_server(gguf_file: GgufOfJob) -> None:
    request = {"messages": [{"role": "user", "content": "What is a lambda?"}], "max_tokens": 8, "temperature": 0}
    with llama_cpp.server(gguf_file.path) as address:
        answer = httpx.post(f"{address}/v1/chat/completions", json=request, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
    assert answer.json()["usage"]["completion_tokens"] > 0


@dataclass(frozen=True)
class GgufOfJob:
    """A downloaded file, and what its job says of it."""

    path: Path
    memory_budget: int
    measured_bytes: int


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> GgufOfJob:
    """The file of a job that was posted, worked on and downloaded as a user does."""
    root = tmp_path_factory.mktemp("gguf-job")
    model, dataset = build_tiny_llama(root / "tiny", train_steps=20), write_text_dataset(root / "prose.txt")
    settings = Settings(data_dir=root / "data", allowed_roots=(root,), poll_seconds=0.1, _env_file=None)
    with contextmanager(run_service)(settings) as service, Client(service.url) as client:
        job = client.jobs.create(**TINY_JOB, model=str(model), dataset=str(dataset))
        state = service.app.state
        Supervisor(Parts(settings, state.session_factory, state.store), "tester").run(job.id)
        report = job.wait().result
        assert report is not None
        path = job.artifacts.download("model.gguf", root / "model.gguf")
    final = next(row for row in report.measurements if row.variant == "final")
    return GgufOfJob(path, job.view.memory_budget, final.bytes)


def check_round_trip(source: Path, tmp_path: Path) -> None:
    model = compress_in_memory(source, tmp_path / "mixed")
    with torch.no_grad():
        expected = model(IDS).logits
        with model.disable_adapter():
            assert not torch.equal(model(IDS).logits, expected)
    tar = tmp_path / "mixed.tar"
    pack_directory(tmp_path / "mixed", tar)
    download(tar, tmp_path / "downloaded.tar", tmp_path / "data")
    with tarfile.open(tmp_path / "downloaded.tar") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    actual = tmp_path / "actual.pt"
    subprocess.run([sys.executable, "-c", LOGITS_SCRIPT, str(tmp_path / "unpacked" / "mixed"), str(actual)], check=True)
    assert torch.equal(torch.load(actual), expected)


def download(tar: Path, target: Path, data_dir: Path) -> None:
    """Put ``tar`` into the store of a running service, and fetch it as its user would."""
    with contextmanager(run_service)(Settings(data_dir=data_dir)) as service:
        store = service.app.state.store
        key = f"jobs/job_x/artifacts/{tar.name}"
        store.put_file(key, tar)
        url = store.signed_url(key, expires_in=600, filename=tar.name, base_url=service.url)
        received = hashlib.sha256()
        with httpx.stream("GET", url) as response, target.open("wb") as file:
            assert response.status_code == 200
            for chunk in response.iter_bytes():
                received.update(chunk)
                file.write(chunk)
    assert received.hexdigest() == file_sha256(tar)
