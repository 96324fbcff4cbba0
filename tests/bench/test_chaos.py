"""The plan of a chaos run, and that its verdict sees every kind of fault."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from app.database import utc_now
from app.jobs.history import append_event
from app.jobs.models import Job
from bench.chaos.schedule import plan_blows
from bench.chaos.submitting import Submits
from bench.chaos.verdict import Interruption, judge
from bench.soak import Bound, slope_of
from tests.worker.bench import CONFIG
from tests.worker.installation import run_installation


def test_a_seed_plans_the_same_blows_and_no_part_is_hit_while_it_is_down() -> None:
    blows = plan_blows(7, ["API", "worker"], 20, 100.0, 3.0)
    assert blows == plan_blows(7, ["API", "worker"], 20, 100.0, 3.0) != plan_blows(8, ["API", "worker"], 20, 100.0, 3.0)
    assert len(blows) == 40
    for kind in ("API", "worker"):
        own = [blow for blow in blows if blow.kind == kind]
        assert all(before.at + before.down <= after.at for before, after in pairwise(own))
        assert all(0 <= blow.at <= 100 and 0 <= blow.down <= 2.5 for blow in own)


@pytest.mark.service
def test_every_fault_is_seen(tmp_path: Path) -> None:
    with run_installation(tmp_path, {}, dispatching=False) as installation:
        queued, failed, twice = (installation.submit(CONFIG) for _ in range(3))
        begin = utc_now()
        with installation.sessions.begin() as session:
            for job_id, status in ((failed, "failed"), (twice, "succeeded")):
                session.get_one(Job, job_id).status = status  # type: ignore[assignment]
            for _ in range(2):
                append_event(session, twice, "stage_finished", {"stage": "score", "resumed": False})
                append_event(session, twice, "started")
        (tmp_path / "file").touch()
        installation.store.put_file(f"jobs/{twice}/token/stray", tmp_path / "file")
        submits = Submits({"a": queued, "b": failed, "c": twice, "d": "job_gone"})
        hits = [Interruption("worker", begin - timedelta(seconds=2), twice), Interruption("child", utc_now(), twice)]
        with installation.sessions() as session:
            verdict = judge(session, installation.store, submits, hits)
    assert [fault.split(":")[0] for fault in verdict.lost] == ["a", "d"]
    assert [fault.split(":")[0] for fault in verdict.wrongly_failed] == ["b"]
    assert [fault for fault in verdict.done_twice if "score" in fault] == [f"{twice}: score 2 times"]
    assert verdict.without_row == [f"jobs/{twice}/token/stray"]
    assert 2 <= verdict.seconds[0] < 60
    assert len(verdict.seconds) == 1  # the second kill hit nothing that had to begin again


def test_growth_is_what_lasts_and_no_single_peak() -> None:
    level = [(float(second), 100.0 + (50 if second == 30 else 0)) for second in range(60)]
    assert slope_of(level) == 0
    assert slope_of([(float(second), 2.0 * second) for second in range(60)]) == pytest.approx(2.0)
    bound = Bound(per_hour=32, in_any_case=8)
    assert not bound.is_broken_by(0.1, 60)  # 6 in the time that was measured: noise
    assert bound.is_broken_by(0.1, 600)
    assert not bound.is_broken_by(0.001, 36000)
