"""What a user gets through a signed URL is the model that was in memory before export."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

from app.settings import Settings
from qpruner_core.models import resolve_model
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage_store import file_sha256
from tests.app.live_service import run_service
from tests.model_in_memory import IDS, LOGITS_SCRIPT, compress_in_memory
from tests.tiny_model import build_tiny_llama
from worker.artifacts import pack_directory


@pytest.mark.service
def test_a_tiny_checkpoint_through_a_signed_url_gives_the_logits_of_the_model_in_memory(tmp_path: Path) -> None:
    check_round_trip(build_tiny_llama(tmp_path / "tiny", train_steps=20), tmp_path)


@pytest.mark.slow
@pytest.mark.service
def test_smollm2_through_a_signed_url_gives_the_logits_of_the_model_in_memory(tmp_path: Path) -> None:
    check_round_trip(resolve_model("demo:smollm2-135m-instruct", SourcePolicy()).directory, tmp_path)


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
