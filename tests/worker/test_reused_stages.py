"""What one job has computed another of its tenant takes over, from real databases and stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.jobs import service
from app.jobs.models import JobMetric, JobTrial
from app.storage.obsolete import deleting
from app.store.local import LocalStore
from qpruner_core.events import STAGES
from tests.worker.bench import CONFIG, Bench
from worker.supervisor import Supervisor

pytestmark = pytest.mark.service
OTHER = CONFIG | {"memory_budget": 900}
SHARED = ("prune", "score")


def run(bench: Bench, config: dict[str, Any], *, tenant: str = "default", **parts: Any) -> str:
    """A job that has succeeded, worked on by a host that no other job was on."""
    job_id = bench.installation.submit(config, tenant=tenant)
    bench.start(job_id, parts=bench.parts(host=f"host-of-{job_id}", **parts))
    bench.join()
    assert bench.installation.job(job_id).status == "succeeded", bench.installation.describe(job_id)
    return job_id


def delete(bench: Bench, job_id: str) -> None:
    with deleting(bench.installation.sessions, bench.installation.store) as session:
        service.delete_job(session, "default", job_id)


def test_a_job_with_another_budget_computes_only_what_the_budget_changes(bench: Bench) -> None:
    first = run(bench, CONFIG)
    second = run(bench, OTHER)
    assert bench.installation.reused(second) == dict.fromkeys(SHARED, first)
    assert bench.installation.stages_started(second) == list(STAGES[2:])
    told = [event.data for event in bench.installation.events(second, "stage_finished")]
    assert [data["stage"] for data in told] == list(STAGES)
    assert [data.get("reused_from") for data in told] == [first, first, *[None] * 5]
    delete(bench, first)
    third = run(bench, CONFIG | {"memory_budget": 800})
    assert bench.installation.reused(third) == dict.fromkeys(SHARED, first), "the job that computed it is named"


def test_reused_stages_give_the_artifacts_of_a_run_that_computes_all(bench: Bench) -> None:
    fresh = run(bench, OTHER, tenant="alone")
    run(bench, CONFIG)
    second = run(bench, OTHER)
    assert bench.installation.reused(second).keys() == set(SHARED)
    assert bench.installation.artifacts(second) == bench.installation.artifacts(fresh)


def test_trials_and_curves_of_reused_stages_are_told_again_also_after_the_first_job_is_gone(bench: Bench) -> None:
    first = run(bench, CONFIG)
    trials, curves = told_of(bench, first, "allocate")
    second = run(bench, CONFIG)
    delete(bench, first)
    assert "allocate" in bench.installation.reused(second)
    assert len(trials) == 4
    assert curves
    assert told_of(bench, second, "allocate") == (trials, curves)


def told_of(bench: Bench, job_id: str, stage: str) -> tuple[list[Any], list[Any]]:
    """The job's trials, and its curves of ``stage``."""
    names = (
        JobTrial.index,
        JobTrial.origin,
        JobTrial.precisions,
        JobTrial.bytes,
        JobTrial.loss,
        JobTrial.screening_loss,
    )
    points = (JobMetric.name, JobMetric.step, JobMetric.value)
    with bench.installation.sessions() as session:
        trials = session.execute(select(*names).where(JobTrial.job_id == job_id).order_by(JobTrial.index)).all()
        of_stage = (JobMetric.job_id == job_id, JobMetric.name == f"{stage}.loss")
        curves = session.execute(select(*points).where(*of_stage).order_by(JobMetric.step)).all()
    return list(trials), list(curves)


def test_nothing_is_taken_from_another_tenant_or_from_other_settings(bench: Bench) -> None:
    run(bench, CONFIG)
    assert bench.installation.reused(run(bench, OTHER, tenant="another")) == {}
    assert (bench.directions / "measured.900").read_text() == "[0, 1, 2, 3]"
    assert bench.installation.reused(run(bench, OTHER | {"seed": 1})) == {}


def test_a_cancelled_job_gives_what_it_had_finished(bench: Bench) -> None:
    installation = bench.installation
    hold = bench.direct("score", "hold")
    first = installation.submit(CONFIG)
    bench.start(first)
    installation.wait_for_stage(first, "score")
    installation.ask_to_cancel(first)
    bench.join()
    hold.unlink()
    assert installation.reused(run(bench, OTHER)) == {"prune": first}


@pytest.mark.parametrize("lost", ["model gone", "model changed", "job deleted"])
def test_a_job_whose_files_are_gone_costs_nothing_but_time(bench: Bench, lost: str) -> None:
    first = run(bench, CONFIG)
    key = bench.installation.place_of(first, "prune") + "data.bin"
    store = bench.installation.store
    assert isinstance(store, LocalStore)
    if lost == "model gone":
        store.path_of(key).unlink()
    elif lost == "model changed":
        store.path_of(key).write_bytes(b"another model")
    else:
        delete(bench, first)
    second = run(bench, OTHER)
    assert "prune" not in bench.installation.reused(second)
    assert bench.installation.stored_files(second) == bench.installation.recorded_files(second)


def test_a_job_deleted_while_its_files_are_copied_is_no_failure(bench: Bench) -> None:
    first = run(bench, CONFIG)
    store = bench.installation.store
    assert isinstance(store, LocalStore)

    class Vanishing(LocalStore):
        def get_file(self, key: str, path: Path) -> None:
            super().get_file(key, path)
            if "/prune/" in key and first in key:
                delete(bench, first)

    second = run(bench, OTHER, store=Vanishing(store.root, store.signer, store.identity))
    assert bench.installation.reused(second) == {}
    assert bench.installation.stages_started(second) == list(STAGES)


def test_a_job_that_loses_its_worker_goes_on_from_its_own_copy(bench: Bench) -> None:
    installation = bench.installation
    first = run(bench, CONFIG)
    hold = bench.direct("allocate", "hold")
    second = installation.submit(OTHER)
    supervisor = bench.start(second)
    installation.wait_for_stage(second, "allocate")
    supervisor.stop()
    bench.join()
    delete(bench, first)
    hold.unlink()
    bench.start(second, parts=bench.parts(host="another"))
    bench.join()
    assert installation.job(second).status == "succeeded", installation.describe(second)
    assert installation.reused(second) == dict.fromkeys(SHARED, first)
    assert set(installation.stages_started(second)).isdisjoint(SHARED)


def test_of_equal_pruned_models_the_newest_jobs_stays(bench: Bench) -> None:
    installation = bench.installation
    first, second = run(bench, CONFIG), run(bench, OTHER)
    assert installation.place_of(first, "prune") == ""
    assert installation.place_of(first, "score") != ""
    assert installation.place_of(second, "prune") != ""
    for job_id in (first, second):
        assert installation.stored_files(job_id) == installation.recorded_files(job_id)
    Supervisor(bench.parts(keep_pruned=False)).sweep()
    assert installation.place_of(second, "prune") == ""
    assert installation.stored_files(second) == installation.recorded_files(second)


def test_an_allocation_that_was_measured_is_not_measured_again(bench: Bench) -> None:
    run(bench, CONFIG | {"allocate": {"trials": 3}})
    second = run(bench, OTHER | {"allocate": {"trials": 4}})
    assert (bench.directions / "measured.900").read_text() == "[3]"
    with bench.installation.sessions() as session:
        trials = session.scalars(select(JobTrial).where(JobTrial.job_id == second).order_by(JobTrial.index)).all()
    assert [trial.loss for trial in trials] == [1 / 3, 2 / 3, 1.0, 4 / 3]
    run(bench, CONFIG | {"memory_budget": 800, "allocate": {"trials": 40, "calibration_sequences": 4}})
    assert (bench.directions / "measured.800").read_text() == "[0, 1, 2, 3]", "measured in another way"
