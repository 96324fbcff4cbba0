"""Downloads in ranges that go on after an interruption and are verified."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from qpruner_client import Client, DownloadError
from qpruner_client.download import Download, target_of
from qpruner_client.models import ArtifactView
from tests.app.live_service import Service
from tests.client.conftest import CONTENT, QUICK, Refusals
from tests.worker.severable import severable

pytestmark = pytest.mark.service
SMALL = 2**16


def of_store(refusals: Refusals) -> list[str]:
    return [headers.get("range", "") for _, path, headers in refusals.seen if path.startswith("/store/")]


def test_a_file_comes_in_parallel_ranges_and_is_whole(
    client: Client, finished_job: Callable[..., str], tmp_path: Path, refusals: Refusals
) -> None:
    artifacts = client.jobs.get(finished_job()).artifacts
    told: list[tuple[int, int]] = []
    server = client.jobs._connection.server
    path = Download(
        server,
        artifacts.find,
        tmp_path / "out" / "mixed.tar",
        range_bytes=SMALL,
        on_bytes=lambda *now: told.append(now),
    ).run()
    assert path.read_bytes() == CONTENT
    assert [one.name for one in path.parent.iterdir()] == ["mixed.tar"]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert len(of_store(refusals)) == -(-len(CONTENT) // SMALL)
    assert all("authorization" not in headers for _, path, headers in refusals.seen if path.startswith("/store/"))


def test_the_file_to_take_goes_into_a_folder_and_a_named_one_where_it_is_to(
    client: Client, finished_job: Callable[..., str], tmp_path: Path, refusals: Refusals
) -> None:
    artifacts = client.jobs.get(finished_job()).artifacts
    assert artifacts.download(to=tmp_path).name == "mixed.tar"
    assert artifacts.download("mixed.tar", tmp_path / "mine.tar").read_bytes() == CONTENT
    before = len(of_store(refusals))
    assert artifacts.download(to=tmp_path) == tmp_path / "mixed.tar"  # it is there, and whole
    assert len(of_store(refusals)) == before
    with pytest.raises(DownloadError, match=r"Its files are mixed\.tar"):
        artifacts.download("other.tar")


def test_a_download_that_was_stopped_goes_on_where_it_ended(
    client: Client, finished_job: Callable[..., str], tmp_path: Path, refusals: Refusals
) -> None:
    artifacts = client.jobs.get(finished_job()).artifacts
    server, stop = client.jobs._connection.server, threading.Event()
    target = tmp_path / "mixed.tar"

    def stop_half_way(done: int, total: int) -> None:
        if done > total / 2:
            stop.set()

    with pytest.raises(DownloadError, match="stopped"):
        Download(
            server, artifacts.find, target, range_bytes=SMALL, connections=2, on_bytes=stop_half_way, stop=stop
        ).run()
    assert not target.exists()
    finished = len(json.loads((tmp_path / "mixed.tar.part.json").read_text())["done"])
    before = len(of_store(refusals))
    Download(server, artifacts.find, target, range_bytes=SMALL).run()
    assert target.read_bytes() == CONTENT
    assert finished > 0
    assert len(of_store(refusals)) - before == -(-len(CONTENT) // SMALL) - finished


def test_a_connection_that_breaks_costs_only_what_was_on_its_way(
    service: Service, finished_job: Callable[..., str], tmp_path: Path
) -> None:
    job_id = finished_job()
    with severable(int(service.url.rpartition(":")[2])) as cable:
        pulls = 0

        def disturb(done: int, total: int) -> None:
            nonlocal pulls
            if pulls < 3 and done > total * (pulls + 1) / 5:
                pulls += 1
                cable.pull()
                cable.plug_in()

        with Client(f"http://127.0.0.1:{cable.port}", retries=QUICK) as client:
            artifacts = client.jobs.get(job_id).artifacts
            path = artifacts.download(to=tmp_path, on_bytes=disturb)
    assert (path.read_bytes() == CONTENT, pulls) == (True, 3)


def test_an_expired_url_is_asked_for_anew(
    client: Client, finished_job: Callable[..., str], tmp_path: Path, refusals: Refusals
) -> None:
    artifacts = client.jobs.get(finished_job()).artifacts
    entries: list[ArtifactView] = []

    def find() -> ArtifactView:
        entry = artifacts.find()
        entries.append(entry if entries else entry.model_copy(update={"url": f"{entry.url}0"}))  # an invalid signature
        return entries[-1]

    path = Download(client.jobs._connection.server, find, tmp_path / "mixed.tar", range_bytes=SMALL).run()
    assert (path.read_bytes() == CONTENT, len(entries)) == (True, 2)


def test_a_file_that_is_not_the_listed_one_is_not_kept(
    client: Client, finished_job: Callable[..., str], tmp_path: Path
) -> None:
    artifacts = client.jobs.get(finished_job(sha256="0" * 64)).artifacts
    with pytest.raises(DownloadError, match="SHA-256") as corrupt:
        artifacts.download(to=tmp_path / "out")
    assert corrupt.value.code == "download_corrupt"
    assert list((tmp_path / "out").iterdir()) == []


def test_an_empty_file_is_a_file(client: Client, finished_job: Callable[..., str], tmp_path: Path) -> None:
    assert client.jobs.get(finished_job(content=b"")).artifacts.download(to=tmp_path).read_bytes() == b""


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", "", "a\\b", "a\0"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        target_of(name, tmp_path)
