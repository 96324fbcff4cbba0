"""Uploads good and bad, over HTTP, on both databases."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

import app.page
from app.database import utc_now
from app.ids import new_id
from app.jobs.models import Job, JobStatus
from app.keys.service import create_key
from app.secrets import load_signing_key
from app.settings import Settings
from app.store import LocalStore
from app.store.identity import MARKER
from qpruner_core.dataset_forms import ACCEPTED_COLUMNS, FILE_REMEDY, SUFFIXES

PROSE = b'{"text": "The quick brown fox."}\n{"text": "Jumps over the lazy dog."}\n'


@pytest.fixture
def store_folder(settings: Settings) -> Path:
    """Where the application's store lies."""
    return settings.data_dir / "store"


def _upload(client: TestClient, content: bytes, name: str = "prose.jsonl", **headers: str) -> dict[str, object]:
    response = client.post("/datasets", files={"file": (name, content)}, headers=headers)
    assert response.status_code == 201, response.text
    document: dict[str, object] = response.json()
    return document


def _nothing_is_left(client: TestClient, settings: Settings) -> bool:
    kept = ("signing.key", MARKER)
    files = [path for path in settings.data_dir.rglob("*") if path.is_file() and path.name not in kept]
    return client.get("/datasets").json()["datasets"] == [] and files == []


def _key(sessions: sessionmaker[Session], settings: Settings, tenant: str, scope: str = "submit") -> dict[str, str]:
    with sessions() as session:
        _, key = create_key(session, load_signing_key(settings), tenant, "test", [scope])
        session.commit()
    return {"Authorization": f"Bearer {key}"}


def _add_job(sessions: sessionmaker[Session], dataset_id: object, status: JobStatus, tenant: str = "default") -> str:
    job = Job(
        id=new_id("job"),
        tenant=tenant,
        status=status,
        model="m",
        dataset=str(dataset_id),
        memory_budget=1,
        config={},
        request_sha256="0" * 64,
        max_attempts=1,
        created_at=utc_now(),
    )
    with sessions() as session:
        session.add(job)
        session.commit()
    return job.id


def test_an_upload_is_described_and_kept(client: TestClient, store_folder: Path) -> None:
    dataset = _upload(client, PROSE)
    assert dataset["kind"] == "text"
    assert (dataset["records"], dataset["bytes"]) == (2, len(PROSE))
    assert dataset["sha256"] == hashlib.sha256(PROSE).hexdigest()
    assert (store_folder / "datasets" / str(dataset["id"]) / "prose.jsonl").read_bytes() == PROSE
    assert client.get(f"/datasets/{dataset['id']}").json() == dataset


def test_every_form_of_file_is_taken_and_its_name_kept(client: TestClient) -> None:
    table = b"instruction,output\r\nAdd.,3\r\n"
    for name, content, kind in (
        ("table.csv", table, "instruction"),
        ("table.tsv.gz", gzip.compress(table.replace(b",", b"\t")), "instruction"),
        ("array.json", b'[{"question": "x", "answer": "y"}]', "instruction"),
        ("prose.jsonl.gz", gzip.compress(PROSE), "text"),
    ):
        dataset = _upload(client, content, name=name)
        assert (dataset["kind"], dataset["filename"], dataset["bytes"]) == (kind, name, len(content))


def test_docs_and_page_name_every_form_that_the_reader_takes(client: TestClient) -> None:
    description = client.get("/openapi.json").json()["paths"]["/datasets"]["post"]["description"]
    assert ACCEPTED_COLUMNS in description
    page = (Path(app.page.__file__).parent / "static" / "dataset_field.js").read_text()
    accepted = re.search(r'accept: "([^"]*)"', page)
    assert accepted is not None
    for suffix in SUFFIXES:
        assert Path(suffix).suffix in accepted[1].split(",") or suffix in accepted[1].split(",")
        assert Path(f"x{suffix}").suffix in FILE_REMEDY or suffix == ".ndjson"


def test_the_answer_says_where_the_dataset_is(client: TestClient) -> None:
    response = client.post("/datasets", files={"file": ("prose.jsonl", PROSE)})
    assert response.headers["location"] == f"/datasets/{response.json()['id']}"


def test_the_bare_body_is_a_file_too(client: TestClient) -> None:
    response = client.post("/datasets", params={"filename": "notes.txt"}, content=b"Some words.\n\nAnd more.\n")
    assert response.status_code == 201, response.text
    assert (response.json()["filename"], response.json()["records"]) == ("notes.txt", 2)


def test_no_temporary_file_stays(client: TestClient, settings: Settings) -> None:
    _upload(client, PROSE)
    assert list((settings.data_dir / "uploads").iterdir()) == []


def test_a_path_in_the_file_name_is_cut_off(client: TestClient, store_folder: Path) -> None:
    dataset = _upload(client, PROSE, name="../../../escape.jsonl")
    assert dataset["filename"] == "escape.jsonl"
    stored = [path.relative_to(store_folder).as_posix() for path in store_folder.rglob("*") if path.is_file()]
    assert sorted(stored) == [MARKER, f"datasets/{dataset['id']}/escape.jsonl"]


BAD_FILES = {
    "empty.txt": b"",
    "blank.txt": b"\n\n  \n",
    "binary.txt": b"text\0\x01\x02",
    "latin.txt": "déjà vu".encode("latin-1"),
    "columns.jsonl": b'{"question": "x", "reply": "y"}\n',
    "broken.jsonl": b'{"text": "x"\n',
    "mixed.jsonl": b'{"text": "x"}\n' + b'{"instruction": "x", "output": "y"}\n' * 4,
    "open.json": b'[{"text": "x"}',
    "quote.csv": b'text\n"x\n',
    "broken.jsonl.gz": gzip.compress(PROSE)[:-9],
    "archive.tar.gz": gzip.compress(PROSE),
    "weights.bin": b"weights",
    "noextension": b"text",
}


def test_a_bad_file_is_refused_with_the_reason_and_nothing_is_left(client: TestClient, settings: Settings) -> None:
    for name, content in BAD_FILES.items():
        response = client.post("/datasets", files={"file": (name, content)})
        problem = response.json()
        assert (response.status_code, problem["code"], problem["field"]) == (422, "dataset_invalid", "file"), name
        assert problem["detail"], name
        assert problem["remedy"], name
        assert str(settings.data_dir) not in response.text, name
        assert _nothing_is_left(client, settings), name


def test_a_request_without_a_file_says_how_to_send_one(client: TestClient) -> None:
    for response in (
        client.post("/datasets", data={"file": "not a file"}),
        client.post("/datasets", files={"other": ("a.txt", b"text")}),
        client.post("/datasets", content=b"text"),
        client.post("/datasets"),
    ):
        assert (response.status_code, response.json()["code"]) == (400, "file_missing")
        assert "curl" in response.json()["remedy"]


def test_a_form_that_cannot_be_read_is_told(client: TestClient, settings: Settings) -> None:
    for headers in ({"Content-Type": "multipart/form-data"}, {"Content-Type": "multipart/form-data; boundary=x"}):
        response = client.post("/datasets", content=b"--y\r\nnonsense", headers=headers)
        assert response.status_code == 400
        assert response.json()["code"] in ("invalid_form", "file_missing")
    two = client.post("/datasets", files=[("file", ("a.txt", b"a")), ("file", ("b.txt", b"b"))])
    assert (two.status_code, two.json()["code"]) == (400, "invalid_form")
    assert _nothing_is_left(client, settings)


class TooLarge:
    """A body that counts how much of it was read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.read < self.size:
            self.read += 2**16
            yield b"word " * 13107 + b"\n"


@pytest.fixture
def small_limit(application: FastAPI) -> Iterator[int]:
    """A limit of 200 kB on datasets."""
    before = application.state.settings
    application.state.settings = before.model_copy(update={"max_dataset_bytes": 200_000})
    yield 200_000
    application.state.settings = before


def test_a_file_over_the_limit_is_refused_and_nothing_is_left(
    client: TestClient, settings: Settings, small_limit: int
) -> None:
    for response in (
        client.post("/datasets", files={"file": ("a.txt", b"x" * (small_limit + 1))}),
        client.post("/datasets", files={"file": ("a.txt", b"x" * (small_limit + 100_000))}),
        client.post("/datasets", params={"filename": "a.txt"}, content=b"x" * (small_limit + 1)),
        client.post("/datasets", params={"filename": "a.txt"}, content=iter(TooLarge(10 * small_limit))),
    ):
        assert (response.status_code, response.json()["code"]) == (413, "dataset_too_large")
        assert "200.0 kB" in response.json()["detail"]
    assert _nothing_is_left(client, settings)


def test_a_file_of_just_the_limit_is_taken(client: TestClient, small_limit: int) -> None:
    assert _upload(client, b"word " * (small_limit // 5), name="a.txt")["bytes"] == small_limit


def test_a_store_that_is_away_is_told_and_nothing_is_left(
    client: TestClient, settings: Settings, store_folder: Path, tmp_path: Path
) -> None:
    client.app.state.store.check()  # type: ignore[attr-defined]
    store_folder.rename(tmp_path / "away")
    response = client.post("/datasets", files={"file": ("prose.jsonl", PROSE)})
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    (tmp_path / "away").rename(store_folder)
    assert _nothing_is_left(client, settings)
    _upload(client, PROSE)


def test_a_full_store_is_told_and_nothing_is_left(
    client: TestClient, application: FastAPI, settings: Settings, small_disk: Path
) -> None:
    store = application.state.store
    application.state.store = LocalStore(small_disk, store.signer, store.identity)
    application.state.store.write_marker(store.read_marker())  # as if the whole store lay on that disk
    response = client.post("/datasets", files={"file": ("large.txt", b"word " * 300_000)})
    assert (response.status_code, response.json()["code"]) == (507, "disk_full")
    assert list(small_disk.rglob("*.txt")) == []
    assert _nothing_is_left(client, settings)
    assert _upload(client, PROSE)["bytes"] == len(PROSE)


def test_a_full_scratch_disk_is_told_and_nothing_is_left(
    client: TestClient, application: FastAPI, settings: Settings, small_disk: Path
) -> None:
    application.state.settings = settings.model_copy(update={"data_dir": small_disk})
    response = client.post("/datasets", files={"file": ("large.txt", b"word " * 300_000)})
    assert (response.status_code, response.json()["code"]) == (507, "disk_full")
    assert list((small_disk / "uploads").iterdir()) == []


def test_a_row_that_cannot_be_written_takes_its_file_along(
    client: TestClient, settings: Settings, sessions: sessionmaker[Session]
) -> None:
    with sessions() as session:
        session.execute(text("ALTER TABLE datasets RENAME TO datasets_away"))
        session.commit()
    response = client.post("/datasets", files={"file": ("prose.jsonl", PROSE)})
    assert response.status_code >= 500
    with sessions() as session:
        session.execute(text("ALTER TABLE datasets_away RENAME TO datasets"))
        session.commit()
    assert _nothing_is_left(client, settings)


def test_datasets_are_listed_newest_first_in_pages(client: TestClient) -> None:
    ids = [_upload(client, PROSE)["id"] for _ in range(5)]
    first = client.get("/datasets", params={"limit": 2}).json()
    second = client.get("/datasets", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    third = client.get("/datasets", params={"limit": 2, "cursor": second["next_cursor"]}).json()
    assert [dataset["id"] for page in (first, second, third) for dataset in page["datasets"]] == ids[::-1]
    assert third["next_cursor"] is None


def test_a_cursor_that_was_made_up_is_refused(client: TestClient) -> None:
    response = client.get("/datasets", params={"cursor": "ds_x"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


def test_another_tenant_s_dataset_is_not_there(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings, store_folder: Path
) -> None:
    ours, theirs = _key(sessions, settings, "ours"), _key(sessions, settings, "theirs")
    dataset = _upload(client, PROSE, **theirs)
    for response in (
        client.get(f"/datasets/{dataset['id']}", headers=ours),
        client.delete(f"/datasets/{dataset['id']}", headers=ours),
        client.get("/datasets/ds_none", headers=ours),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "dataset_not_found")
    assert client.get("/datasets", headers=ours).json()["datasets"] == []
    assert client.get(f"/datasets/{dataset['id']}", headers=theirs).json() == dataset
    assert (store_folder / "datasets" / str(dataset["id"])).exists()


def test_a_key_that_may_only_read_neither_uploads_nor_deletes(
    client: TestClient, sessions: sessionmaker[Session], settings: Settings
) -> None:
    dataset = _upload(client, PROSE, **_key(sessions, settings, "acme"))
    reader = _key(sessions, settings, "acme", "read")
    assert client.get(f"/datasets/{dataset['id']}", headers=reader).status_code == 200
    assert client.delete(f"/datasets/{dataset['id']}", headers=reader).status_code == 403
    assert client.post("/datasets", files={"file": ("a.txt", b"text")}, headers=reader).status_code == 403


def test_deleting_takes_row_and_file(client: TestClient, settings: Settings) -> None:
    dataset = _upload(client, PROSE)
    assert client.delete(f"/datasets/{dataset['id']}").status_code == 204
    assert client.get(f"/datasets/{dataset['id']}").status_code == 404
    assert _nothing_is_left(client, settings)


def test_a_dataset_is_kept_while_an_unfinished_job_uses_it(client: TestClient, sessions: sessionmaker[Session]) -> None:
    dataset = _upload(client, PROSE)
    _add_job(sessions, dataset["id"], "succeeded")
    _add_job(sessions, dataset["id"], "running", tenant="other")
    job_id = _add_job(sessions, dataset["id"], "queued")
    response = client.delete(f"/datasets/{dataset['id']}")
    assert (response.status_code, response.json()["code"]) == (409, "dataset_in_use")
    assert job_id in response.json()["remedy"]
    with sessions() as session:
        job = session.get(Job, job_id)
        assert job is not None
        job.status = "cancelled"
        session.commit()
    assert client.delete(f"/datasets/{dataset['id']}").status_code == 204


def test_a_dataset_whose_file_cannot_be_deleted_stays_and_can_be_deleted_later(
    client: TestClient, store_folder: Path, tmp_path: Path
) -> None:
    dataset = _upload(client, PROSE)
    store_folder.rename(tmp_path / "away")
    response = client.delete(f"/datasets/{dataset['id']}")
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    (tmp_path / "away").rename(store_folder)
    assert client.get(f"/datasets/{dataset['id']}").json() == dataset
    assert client.delete(f"/datasets/{dataset['id']}").status_code == 204
