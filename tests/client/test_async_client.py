"""The asynchronous client does the same, without holding up the event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import qpruner_client
from app.jobs.history import append_event
from app.jobs.models import Job
from qpruner_client import AsyncClient, JobCancelledError, NotFoundError, WaitTimeoutError
from qpruner_client.async_datasets import AsyncDatasets
from qpruner_client.async_jobs import AsyncArtifacts, AsyncJob, AsyncJobs
from qpruner_client.async_models import AsyncModels
from qpruner_client.datasets import Datasets
from qpruner_client.jobs import Artifacts, Jobs
from qpruner_client.jobs import Job as SyncJob
from qpruner_client.uploaded_models import Models
from tests.app import seeded_jobs
from tests.app.live_service import Service
from tests.client.conftest import CONTENT, QUICK, Refusals
from tests.client.test_requests import run_of

pytestmark = pytest.mark.service


def public(kind: type) -> dict[str, list[str]]:
    methods = inspect.getmembers(kind, inspect.isfunction)
    return {name: list(inspect.signature(method).parameters) for name, method in methods if not name.startswith("_")}


@pytest.mark.parametrize(
    ("synchronous", "asynchronous"),
    [(SyncJob, AsyncJob), (Jobs, AsyncJobs), (Datasets, AsyncDatasets), (Models, AsyncModels)],
)
def test_it_has_the_same_names_and_arguments(synchronous: type, asynchronous: type) -> None:
    assert public(synchronous) == public(asynchronous)


def test_what_it_lacks_of_the_synchronous_one_is_only_what_a_task_replaces() -> None:
    assert set(public(Artifacts)) - set(public(AsyncArtifacts)) == {"find"}
    assert inspect.signature(qpruner_client.Client) == inspect.signature(AsyncClient)


async def _do_all(
    service: Service, sources: Path, tmp_path: Path, refusals: Refusals, job_id: str, running: str
) -> None:
    async with AsyncClient(service.url, retries=QUICK) as client:
        refusals.next = [(503, {})]
        dataset = await client.datasets.upload(sources / "text.txt")
        assert [one.id async for one in client.datasets.list()] == [dataset.id]
        made = await client.jobs.create(**run_of(sources, dataset=dataset.id))
        assert (await client.jobs.estimate(**run_of(sources))).feasible
        with pytest.raises(WaitTimeoutError):
            await made.wait(timeout=0.2)
        assert (await (await made.cancel()).retry()).status == "queued"
        await (await made.cancel()).delete()
        with pytest.raises(NotFoundError):
            await client.jobs.get(made.id)
        job = await client.jobs.get(job_id)
        path, ticks = await asyncio.gather(job.artifacts.download(to=tmp_path), _tick())
        assert (path.read_bytes() == CONTENT, ticks) == (True, 5)
        assert len((await job.trials()).trials) == 40
        assert (await job.metrics()).measurements
        with pytest.raises(JobCancelledError):
            await (await client.jobs.get(running)).wait()
        assert job_id in [one.id async for one in client.jobs.list()]


async def _tick() -> int:
    for _ in range(5):
        await asyncio.sleep(0.001)
    return 5


def test_it_does_all_that_the_synchronous_one_does(
    service: Service, sources: Path, tmp_path: Path, refusals: Refusals, finished_job: Callable[..., str]
) -> None:
    with service.app.state.session_factory.begin() as session:
        running = seeded_jobs.add_running_job(session).id

    def end() -> None:
        with service.app.state.session_factory.begin() as session:
            session.get_one(Job, running).status = "cancelled"
            append_event(session, running, "cancelled")

    timer = threading.Timer(1.0, end)
    timer.start()
    asyncio.run(_do_all(service, sources, tmp_path, refusals, finished_job(), running))
    timer.join()
