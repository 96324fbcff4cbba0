"""Models sent by the client: whole, in parallel parts, broken off and gone on with; on a folder and on a bucket."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import update

from app.keys.service import create_key
from app.secrets import load_signing_key
from app.settings import Settings
from app.uploads.models import Upload
from qpruner_client import AsyncClient, Client, NotFoundError, UploadError, UploadFailedError, WaitTimeoutError
from qpruner_client.local_models import find_files
from tests.app.live_service import Service, run_service
from tests.client.conftest import QUICK, Refusals
from tests.s3 import S3Server
from tests.tiny_gguf import write_tiny_gguf
from tests.uploading import PART_BYTES, checks_of

pytestmark = pytest.mark.service


@pytest.fixture
def service(tmp_path: Path, refusals: Refusals) -> Iterator[Service]:
    settings = Settings(
        data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", poll_seconds=0.05, allow_hub=False,
        upload_part_bytes=PART_BYTES, _env_file=None,
    )  # fmt: skip
    yield from run_service(settings, refusals.around)


@contextmanager
def checking(service: Service) -> Iterator[None]:
    """What a worker does with uploads, meanwhile."""
    checks = checks_of(service.app, service.app.state.settings)
    checks.start()
    yield
    checks.stop()


@pytest.fixture
def folder(sources: Path, tmp_path: Path) -> Path:
    """A model with a file of several parts, and with files that no service reads."""
    folder = tmp_path / "my model"
    shutil.copytree(sources / "model", folder)
    (folder / "large.txt").write_bytes(Random(0).randbytes(2 * PART_BYTES + 1000))
    for name in ("README.md", "pytorch_model.bin", ".gitattributes", "modeling_own.py"):
        (folder / name).write_text("not read")
    return folder


def test_a_folder_is_sent_checked_and_managed(service: Service, client: Client, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    with checking(service):
        model = client.models.upload(folder, on_bytes=lambda done, total: told.append((done, total)))
    assert (model.status, model.name, model.model_type) == ("ready", "my-model", "llama")
    sent = {file.name for file in model.files}
    assert {"config.json", "model.safetensors", "large.txt"} <= sent
    assert not {"README.md", "pytorch_model.bin", ".gitattributes", "modeling_own.py"} & sent
    assert told[0] == (0, model.bytes)
    assert told[-1] == (model.bytes, model.bytes)
    assert [one.id for one in client.models.list()] == [model.id]
    assert client.models.wait(model.id) == client.models.get(model.id)
    client.models.delete(model.id)
    with pytest.raises(NotFoundError):
        client.models.get(model.id)


def test_an_upload_that_was_stopped_goes_on_where_it_ended(
    service: Service, client: Client, folder: Path, refusals: Refusals
) -> None:
    class EnoughError(Exception):
        pass

    def break_off(done: int, total: int) -> None:
        if done > PART_BYTES:
            raise EnoughError

    with pytest.raises(EnoughError):
        client.models.upload(folder, on_bytes=break_off, connections=1)
    (one,) = client.models.list()
    assert one.status == "uploading"
    earlier = sum(method == "PUT" for method, _, _ in refusals.seen)
    told: list[int] = []
    model = client.models.upload(folder, wait=False, on_bytes=lambda done, total: told.append(done))
    assert (model.id, model.status) == (one.id, "checking")
    assert told[0] > 0
    parts = sum(-(-file.bytes // PART_BYTES) for file in model.files)
    later = sum(method == "PUT" for method, _, _ in refusals.seen) - earlier
    assert later < parts
    assert len(list(client.models.list())) == 1


def test_refusals_and_lost_responses_are_waited_out_and_no_key_goes_to_the_store(
    service: Service, folder: Path, refusals: Refusals
) -> None:
    settings = service.app.state.settings
    with service.app.state.session_factory.begin() as session:
        _, key = create_key(session, load_signing_key(settings), "team", "test", ["submit"])
    with Client(service.url, key, retries=QUICK) as client:
        refusals.next = [(503, {}), (503, {"Retry-After": "0"})]
        model = client.models.upload(folder, wait=False)
    assert model.status == "checking"
    puts = [headers for method, _, headers in refusals.seen if method == "PUT"]
    assert puts
    assert any("authorization" in headers for _, _, headers in refusals.seen)
    assert not any("authorization" in headers for headers in puts)


def test_a_model_of_no_use_is_an_error_with_code_field_and_remedy(
    service: Service, client: Client, folder: Path
) -> None:
    (folder / "config.json").write_text('{"model_type": "no such architecture"}')
    with checking(service), pytest.raises(UploadFailedError) as failed:
        client.models.upload(folder)
    assert (failed.value.code, failed.value.field) == ("unsupported_architecture", "files")
    assert failed.value.upload_id.startswith("md_")
    client.models.upload(folder, wait=False)  # the one that failed is not gone on with
    assert [one.status for one in client.models.list()] == ["checking", "failed"]


def test_waiting_has_an_end(service: Service, client: Client, folder: Path) -> None:
    model = client.models.upload(folder, wait=False)
    with pytest.raises(WaitTimeoutError):
        client.models.wait(model.id, timeout=0.1)


def test_an_upload_that_expired_meanwhile_is_begun_anew(service: Service, client: Client, folder: Path) -> None:
    with Client(service.url) as other, pytest.raises(ZeroDivisionError):
        other.models.upload(folder, on_bytes=lambda done, total: 1 // (done == 0))
    with service.app.state.session_factory.begin() as session:
        session.execute(update(Upload).values(status="failed"))
    assert client.models.upload(folder, wait=False).status == "checking"


def test_the_asynchronous_client_does_the_same(service: Service, folder: Path) -> None:
    async def work() -> None:
        async with AsyncClient(service.url, retries=QUICK) as client:
            model = await client.models.upload(folder)
            assert (await client.models.wait(model.id)).status == "ready"
            assert [one.id async for one in client.models.list()] == [model.id]
            assert (await client.models.get(model.id)).model_type == "llama"
            await client.models.delete(model.id)

    with checking(service):
        asyncio.run(work())


def test_a_bucket_gets_the_bytes_itself(
    tmp_path: Path, s3_server: S3Server, refusals: Refusals, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", poll_seconds=0.05, allow_hub=False, _env_file=None,
        store_url=f"s3://{s3_server.create_bucket()}", s3_endpoint_url=s3_server.endpoint_url,
        upload_part_bytes=PART_BYTES,
    )  # fmt: skip
    services = run_service(settings, refusals.around)
    service = next(services)
    try:
        with checking(service), Client(service.url, retries=QUICK) as client:
            model = client.models.upload(folder)
            assert model.status == "ready"
            client.models.delete(model.id)
        assert not any(method == "PUT" for method, _, _ in refusals.seen)
    finally:
        services.close()  # type: ignore[attr-defined]


def test_what_is_sent_of_a_folder(sources: Path, tmp_path: Path) -> None:
    gguf = write_tiny_gguf(sources / "model", tmp_path / "tiny.gguf")
    assert list(find_files(gguf)) == ["tiny.gguf"]
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(gguf, alone)
    (alone / "README.md").write_text("x")
    assert list(find_files(alone)) == ["tiny.gguf"]
    shutil.copy(gguf, alone / "other.gguf")
    for wrong in (alone, tmp_path / "absent", tmp_path / "data"):
        with pytest.raises(UploadError) as error:
            find_files(wrong)
        assert error.value.remedy
    both = tmp_path / "both"
    shutil.copytree(sources / "model", both)
    shutil.copy(gguf, both)
    shutil.copy(both / "model.safetensors", both / "consolidated.safetensors")
    (both / "additional_chat_templates").mkdir()
    (both / "additional_chat_templates" / "rag.jinja").write_text("x")
    found = set(find_files(both))
    assert {"model.safetensors", "additional_chat_templates/rag.jinja"} <= found
    assert not {"tiny.gguf", "consolidated.safetensors"} & found
