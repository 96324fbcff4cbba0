"""The order in which jobs are taken, and what a job that waits is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.orm import Session, sessionmaker

from app.database import utc_now
from app.jobs import lease
from app.jobs.models import Job, TenantTurn
from app.jobs.queue import QueuePolicy, jobs_before
from app.settings import Settings
from qpruner_core.events import STAGES
from tests.app.jobs.conftest import MakeJob, held_for

EQUAL = QueuePolicy({}, None, None)


def take(sessions: sessionmaker[Session], policy: QueuePolicy = EQUAL) -> lease.Lease | None:
    with sessions.begin() as session:
        return lease.claim_next(session, "worker@host", 30, policy)


def taken(sessions: sessionmaker[Session], count: int, policy: QueuePolicy = EQUAL) -> list[str]:
    """The tenants of the next jobs."""
    return [found.tenant for _ in range(count) if (found := take(sessions, policy)) is not None]


def test_tenants_take_turns_however_many_jobs_one_has(make_job: MakeJob, sessions: sessionmaker[Session]) -> None:
    for _ in range(20):
        make_job(tenant="loud")
    assert taken(sessions, 4) == ["loud"] * 4
    for _ in range(3):
        make_job(tenant="quiet")
    assert taken(sessions, 8) == ["quiet", "loud"] * 3 + ["loud"] * 2


def test_a_tenant_of_weight_two_has_two_turns_for_one(make_job: MakeJob, sessions: sessionmaker[Session]) -> None:
    for tenant in ("double", "single"):
        for _ in range(12):
            make_job(tenant=tenant)
    first = taken(sessions, 12, QueuePolicy({"double": 2.0}, None, None))
    assert (first.count("double"), first.count("single")) == (8, 4)


def test_within_a_tenant_a_lost_job_goes_first_then_priority_then_age(
    make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    now = utc_now()
    ages = {name: now - timedelta(seconds=age) for name, age in (("old", 30), ("young", 10), ("urgent", 1))}
    urgent = make_job(priority=5, queued_at=ages["urgent"])
    young, old = make_job(queued_at=ages["young"]), make_job(queued_at=ages["old"])
    late = make_job(priority=-5, queued_at=ages["old"])
    lost = make_job(priority=-5, tenant="other", queued_at=now)
    held = take(sessions, QueuePolicy({"other": 100.0}, None, None))
    assert held is not None
    if held.job_id != lost:  # whose turn it is first
        with sessions.begin() as session:
            lease.release(session, held)
            session.get_one(Job, held.job_id).was_lost = False
            session.get_one(Job, lost).was_lost = True
    else:
        with sessions.begin() as session:
            lease.give_up(session, held, code="worker_crashed", reason="It died.")
    order = [found.job_id for _ in range(5) if (found := take(sessions)) is not None]
    assert order == [lost, urgent, old, young, late]


def test_limits_of_running_jobs_hold_for_tenants_and_keys_and_make_nobody_else_wait(
    make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    for tenant, key in (("a", "key_1"), ("a", "key_1"), ("a", "key_2"), ("a", "key_2"), ("b", None)):
        make_job(tenant=tenant, key_id=key)
    policy = QueuePolicy({}, most_of_tenant=3, most_of_key=1)
    found = [one for _ in range(5) if (one := take(sessions, policy)) is not None]
    assert sorted(one.tenant for one in found) == ["a", "a", "b"]
    assert take(sessions, policy) is None
    with sessions.begin() as session:
        lease.succeed(session, next(one for one in found if one.tenant == "a"), {})
    assert taken(sessions, 2, policy) == ["a"]


def test_a_job_whose_holder_fell_silent_is_taken_by_the_wake_up_that_names_it(
    make_job: MakeJob, sessions: sessionmaker[Session]
) -> None:
    make_job()
    silent = make_job("running", attempt=1, **held_for(-5))
    with sessions.begin() as session:
        held = lease.claim_next(session, "worker@host", 30, EQUAL, named=silent)
    assert held is not None
    assert (held.job_id, held.attempt) == (silent, 2)


Tenants = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2), st.booleans()), min_size=1, max_size=9)


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(Tenants, st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.5, 1.0, 2.0, 3.0])), st.integers(0, 3))
def test_a_job_is_taken_after_as_many_as_it_was_told(
    make_job: MakeJob, sessions: sessionmaker[Session], jobs: list[tuple[str, int, bool]],
    weights: dict[str, float], before: int,
) -> None:  # fmt: skip
    with sessions.begin() as session:
        session.execute(delete(Job))
        session.execute(delete(TenantTurn))
    policy = QueuePolicy(weights, None, None)
    for tenant, priority, was_lost in jobs:
        make_job(tenant=tenant, priority=priority, was_lost=was_lost)
    for _ in range(before):  # which leaves the turns somewhere
        take(sessions, policy)
    with sessions() as session:
        waiting = session.query(Job).where(Job.status == "queued").all()
        told = {job.id: jobs_before(session, job, policy) for job in waiting}
    order = [found.job_id for _ in told if (found := take(sessions, policy)) is not None]
    assert {job_id: place for place, job_id in enumerate(order)} == told


def test_a_job_says_its_place_and_when_it_is_expected_to_start_and_to_end(
    client: TestClient, make_job: MakeJob, sessions: sessionmaker[Session], authorize: Callable[..., dict[str, str]]
) -> None:
    now = utc_now()
    make_job("succeeded", started_at=now - timedelta(seconds=200), finished_at=now - timedelta(seconds=100))
    running = make_job(
        "running", tenant="them", started_at=now, stage="allocate", progress=2.5 / 7,
        expected_seconds=dict.fromkeys(STAGES, 10.0), **held_for(60),
    )  # fmt: skip
    first, second = make_job(), make_job()

    def seen(job_id: str, tenant: str = "default") -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"/jobs/{job_id}", headers=authorize(tenant, "read")).json()
        return found

    def seconds(moment: str) -> float:
        return (datetime.fromisoformat(moment) - now).total_seconds()

    job = seen(running, "them")
    assert (job["queue"], job["expected_start"]) == (None, None)
    assert seconds(job["expected_end"]) == pytest.approx(45, abs=20)
    waits = [seen(first), seen(second)]
    assert [job["queue"]["ahead"] for job in waits] == [0, 1]
    assert seconds(waits[0]["expected_start"]) == pytest.approx(45, abs=20)
    assert seconds(waits[1]["expected_start"]) == pytest.approx(145, abs=20)
    assert seconds(waits[1]["expected_end"]) == pytest.approx(245, abs=20)


def test_a_submit_says_its_priority_and_a_list_is_one_of_summaries(client: TestClient, make_job: MakeJob) -> None:
    job_id = make_job(priority=7)
    listed = client.get("/jobs").json()["jobs"][0]
    assert (listed["id"], listed["priority"]) == (job_id, 7)
    assert not {"config", "stages", "result"} & listed.keys()
    whole = client.get(f"/jobs/{job_id}").json()
    assert {name: whole[name] for name in listed} == listed


@pytest.mark.parametrize("text", ["research=2 web=0.5", "research=2,web=0.5"])
def test_weights_are_written_as_pairs(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_TENANT_WEIGHTS", text)
    assert Settings(_env_file=None).tenant_weights == {"research": 2.0, "web": 0.5}  # type: ignore[call-arg]
    for wrong in ("research", "research=0", "=2", "research=lots"):
        monkeypatch.setenv("QPRUNER_TENANT_WEIGHTS", wrong)
        with pytest.raises(ValueError, match="tenant_weights"):
            Settings(_env_file=None)  # type: ignore[call-arg]
