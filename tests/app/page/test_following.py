"""What a job's page shows of what is to come, of what was reused, and of a service that goes and comes back."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from app.database import utc_now
from app.jobs.history import append_event
from app.jobs.models import Job, JobMetric, StageResult
from qpruner_core.events import STAGES
from tests.app import seeded_jobs as seed
from tests.app.live_service import Service

pytestmark = pytest.mark.service


def test_a_waiting_job_shows_its_place_and_when_it_is_expected_to_start_and_end(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        done = seed.add_finished_job(session, service.app.state.store, b"x", "0" * 64)
        done.started_at, done.finished_at = utc_now() - timedelta(minutes=20), utc_now()
        waiting = [seed.add_job(session, "queued").id for _ in range(3)]
    page.goto(f"{service.url}/#/jobs/{waiting[2]}")
    expect(page.locator(".outlook")).to_have_text(
        re.compile(r"2 jobs ahead · expected to start in about (40|39) min \(.*\) · to end in about (1 h 0|59) min \(")
    )
    with service.app.state.session_factory.begin() as session:
        for job_id in waiting[:2]:
            session.get_one(Job, job_id).status = "cancelled"
    first = re.compile("^next in the queue · expected to start any moment")
    expect(page.locator(".outlook")).to_have_text(first, timeout=20_000)  # the page looks every five seconds


def test_a_running_job_shows_when_it_is_expected_to_end_and_how_long_stages_will_take(
    page: Page, service: Service
) -> None:
    with service.app.state.session_factory.begin() as session:
        job = seed.add_running_job(session)
        job.expected_seconds = dict.fromkeys(STAGES, 600.0)
        job_id = job.id
    page.goto(f"{service.url}/#/jobs/{job_id}")
    expect(page.locator(".outlook")).to_have_text(re.compile(r"^expected to end in about 4[5-6] min \("))
    expect(page.locator(".stages li").last).to_have_text("evaluateabout 10 min 0 s")


def test_a_service_that_comes_back_clears_what_was_said_and_shows_reused_stages_at_once(
    page: Page, service: Service
) -> None:
    with service.app.state.session_factory.begin() as session:
        job_id = seed.add_job(session, "queued").id
    page.goto(f"{service.url}/#/jobs/{job_id}")
    expect(page.locator(".live.live")).to_be_visible()
    page.context.set_offline(True)
    expect(page.locator(".live.reconnecting")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#notice .error")).to_contain_text("The service is unreachable.")
    with service.app.state.session_factory.begin() as session:
        job = session.get_one(Job, job_id)
        job.status, job.stage, job.attempt, job.started_at = "running", "score", 1, utc_now()
        session.add(
            StageResult(
                job_id=job_id, stage="prune", attempt=1, seconds=93.0, store_prefix="", files=[], summary={},
                finished_at=utc_now(), reused_from="job_01k9t4ae5xfz3v2s6q0m8y1d7c",
            )
        )  # fmt: skip
    page.context.set_offline(False)
    expect(page.locator(".stages li").first).to_have_text("✓prunereused")
    expect(page.locator("#notice")).to_be_empty()
    expect(page.locator(".live.reconnecting")).to_have_count(0)


def test_training_and_held_back_text_have_lines_and_points_of_their_own_colours(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        many = seed.add_finished_job(session, service.app.state.store, b"x", "0" * 64).id
        few = seed.add_running_job(session).id
        for name in ("finetune.loss", "finetune.validation_loss"):
            for step in (0, 1, 2):
                session.add(JobMetric(job_id=few, name=name, step=step, value=3.0 - 0.1 * step + len(name) / 100))
    colour = "node => getComputedStyle(node).stroke"
    page.goto(f"{service.url}/#/jobs/{many}")
    lines = page.locator(".chart path.smooth.loss"), page.locator(".chart path.smooth.validation_loss")
    expect(lines[1]).to_be_visible()
    assert lines[0].evaluate(colour) != lines[1].evaluate(colour)
    page.goto(f"{service.url}/#/jobs/{few}")
    fill = "node => getComputedStyle(node).fill"
    points = page.locator("circle.point.loss"), page.locator("circle.point.validation_loss")
    expect(points[1].first).to_be_visible()
    assert points[0].first.evaluate(fill) != points[1].first.evaluate(fill)
    for kind, point in zip(("loss", "validation_loss"), points, strict=True):
        assert point.first.evaluate(fill) == page.locator(f".chart path.smooth.{kind}").evaluate(colour)


def test_a_map_of_eighty_layers_is_read_without_scrolling(
    page: Page, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed, "LAYERS", 80)
    groups = seed.group_names("module")
    with service.app.state.session_factory.begin() as session:
        job = seed.add_finished_job(session, service.app.state.store, b"x", "0" * 64, groups)
        job_id = job.id
    page.goto(f"{service.url}/#/jobs/{job_id}")
    tables = page.locator(".heat table")
    expect(tables).to_have_count(3)
    expect(tables.nth(1).locator("thead th")).to_have_text(["Layer", *map(str, range(27, 54))])
    expect(page.locator(".heat tbody .cell")).to_have_count(80 * 7)
    wide = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).length"
    assert page.locator(".heat .scroll").evaluate_all(wide) == 0
    sizes = "nodes => Math.min(...nodes.map(node => Math.min(node.clientWidth, node.clientHeight)))"
    assert page.locator(".heat tbody .cell b").evaluate_all(sizes) >= 16


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_precision_is_readable_on_its_colour(scheme: str, page: Page, service: Service) -> None:
    kinds = ["q2_k", "q3_k", "iq4_xs", "q4_k", "q5_k", "q6_k", "q8_0", "bf16", "f16"]
    with service.app.state.session_factory.begin() as session:
        job = seed.add_finished_job(session, service.app.state.store, b"x", "0" * 64)
        job.result = {**(job.result or {}), "precisions": [kinds[i % len(kinds)] for i in range(len(seed.GROUPS))]}
        job_id = job.id
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{service.url}/#/jobs/{job_id}")
    expect(page.locator(".heat .cell b").first).to_be_visible()
    contrast = """nodes => Math.min(...nodes.map(node => {
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const light = (colour) => {
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255);
        const [r, g, b] = parts.map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const style = getComputedStyle(node);
      const [a, b] = [light(style.color), light(style.backgroundColor)].sort();
      return (b + 0.05) / (a + 0.05);
    }))"""
    assert page.locator(".heat .cell b").evaluate_all(contrast) >= 4.5


def test_an_event_of_a_stage_that_was_reused_shows_at_once(page: Page, service: Service) -> None:
    sessions = service.app.state.session_factory
    with sessions.begin() as session:
        job = seed.add_job(session, "running", stage="prune")
        job_id = job.id
    page.goto(f"{service.url}/#/jobs/{job_id}")
    expect(page.locator(".stages .running")).to_have_text(re.compile("prune"))
    donor = "job_01k9t4ae5xfz3v2s6q0m8y1d7c"
    with sessions.begin() as session:
        for stage in STAGES[:3]:
            session.add(
                StageResult(
                    job_id=job_id, stage=stage, attempt=1, seconds=93.0, store_prefix="", files=[], summary={},
                    finished_at=utc_now(), reused_from=donor,
                )
            )  # fmt: skip
            append_event(session, job_id, "stage_finished", {"stage": stage, "seconds": 93.0, "reused_from": donor})
        session.get_one(Job, job_id).stage = "quantize"
    expect(page.locator(".stages .finished")).to_have_text(["✓prunereused", "✓scorereused", "✓allocatereused"])
