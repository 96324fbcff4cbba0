"""The store is not mounted while workers start and jobs come: they wait, and nothing is written elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.database import create_database_engine, utc_now
from app.datasets.models import Dataset
from app.ids import new_id
from app.store import open_store
from tests.worker.bench import CONFIG, Bench
from tests.worker.installation import Installation, eventually

pytestmark = pytest.mark.service


def _upload(installation: Installation, folder: Path) -> str:
    dataset_id = new_id("ds")
    path = folder / "prose.txt"
    path.write_text("Words.")
    key = f"datasets/{dataset_id}/prose.txt"
    installation.store.put_file(key, path)
    with installation.sessions.begin() as session:
        session.add(
            Dataset(
                id=dataset_id, tenant="default", filename="prose.txt", key=key, bytes=6, sha256="", kind="text",
                records=1, created_at=utc_now(),
            )
        )  # fmt: skip
    return dataset_id


@pytest.mark.parametrize("mount_point", [False, True])
def test_a_job_of_an_upload_waits_for_the_store_of_a_worker_that_started_without_it(
    bench: Bench, tmp_path: Path, mount_point: bool
) -> None:
    installation = bench.installation
    dataset_id = _upload(installation, tmp_path)
    folder = installation.settings.data_dir / "store"
    folder.rename(tmp_path / "unmounted")
    if mount_point:
        folder.mkdir()
    settings = installation.settings
    restarted = open_store(settings, create_database_engine(settings.resolved_database_url))
    job_id = installation.submit(CONFIG | {"dataset": dataset_id})
    bench.start(job_id, parts=bench.parts(store=restarted))
    eventually(lambda: installation.events(job_id, "warning") != [], 15)
    job = installation.job(job_id)
    assert (job.status, job.attempt, job.error) == ("running", 1, None)
    assert folder.exists() == mount_point
    if mount_point:
        assert list(folder.iterdir()) == []
        folder.rmdir()
    (tmp_path / "unmounted").rename(folder)
    bench.join()
    job = installation.job(job_id)
    assert (job.status, job.attempt) == ("succeeded", 1), installation.describe(job_id)
    assert installation.stored_files(job_id) == installation.recorded_files(job_id)
