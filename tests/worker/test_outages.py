"""PostgreSQL and the bucket go away while a job runs, and come back: nothing is lost, nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url

from app.database import utc_now
from app.store import StoreUnavailableError
from qpruner_core.events import STAGES
from tests.s3 import S3Server
from tests.server_processes import wait_until
from tests.worker.bench import CONFIG, Bench, run_bench
from tests.worker.installation import run_installation
from tests.worker.severable import Cable, severable

pytestmark = pytest.mark.service


@dataclass(frozen=True)
class AtScale:
    """A bench on PostgreSQL and S3, each at the end of a cable."""

    bench: Bench
    database: Cable
    store: Cable


@pytest.fixture
def at_scale(
    postgres_url: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AtScale]:
    postgres, s3 = make_url(postgres_url), urlsplit(s3_server.endpoint_url)
    if not postgres.port:
        pytest.skip("this PostgreSQL listens on a socket file only, which no proxy can stand before")
    assert s3.port
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    with severable(postgres.port) as database, severable(s3.port) as store:
        settings = {
            "database_url": postgres.set(host="127.0.0.1", port=database.port).render_as_string(hide_password=False),
            "store_url": f"s3://{s3_server.create_bucket()}",
            "s3_endpoint_url": f"http://127.0.0.1:{store.port}",
        }
        with (
            run_installation(tmp_path, settings, dispatching=False) as installation,
            run_bench(installation, tmp_path / "directions") as bench,
        ):
            yield AtScale(bench, database, store)


def test_a_job_outlives_a_database_that_is_away_for_longer_than_its_lease(at_scale: AtScale) -> None:
    bench, installation = at_scale.bench, at_scale.bench.installation
    hold = bench.direct("score", "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.begun("score")
    expires = installation.job(job_id).lease_expires_at
    assert expires is not None
    at_scale.database.pull()
    hold.unlink()
    bench.begun("export")  # the child works on meanwhile
    assert wait_until(lambda: utc_now() > expires)
    at_scale.database.plug_in()
    bench.join()
    job = installation.job(job_id)
    assert (job.status, job.attempt) == ("succeeded", 1), installation.describe(job_id)
    assert installation.stages_started(job_id) == list(STAGES)
    assert installation.artifacts(job_id).keys() == {"mixed.tar", "merged.tar", "report.json"}


def test_a_job_outlives_a_bucket_that_is_away_and_keeps_its_lease(at_scale: AtScale) -> None:
    bench, installation = at_scale.bench, at_scale.bench.installation
    hold = bench.direct("prune", "hold")
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.begun("prune")
    at_scale.store.pull()
    with pytest.raises(StoreUnavailableError):
        installation.store.check()
    hold.unlink()
    bench.begun("export")
    expires = installation.job(job_id).lease_expires_at
    assert expires is not None
    assert wait_until(lambda: utc_now() > expires)
    assert installation.stored_stages(job_id) == set()
    assert installation.job(job_id).status == "running"
    at_scale.store.plug_in()
    bench.join()
    job = installation.job(job_id)
    assert (job.status, job.attempt) == ("succeeded", 1), installation.describe(job_id)


def test_a_job_is_cancelled_within_five_seconds_while_the_bucket_is_away(at_scale: AtScale) -> None:
    bench, installation = at_scale.bench, at_scale.bench.installation
    at_scale.store.pull()
    job_id = installation.submit(CONFIG)
    bench.start(job_id)
    bench.begun("export")
    asked = time.monotonic()
    installation.ask_to_cancel(job_id)
    assert wait_until(lambda: installation.job(job_id).status == "cancelled", 5)
    assert time.monotonic() - asked < 5
    at_scale.store.plug_in()
