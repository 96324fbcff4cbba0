"""The page in a real browser, on the real service."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from app.jobs.history import append_event
from app.jobs.models import Job, JobMetric, JobTrial
from app.jobs.repository import list_trials
from app.keys.service import DEFAULT_TENANT, create_key
from app.secrets import load_signing_key
from tests.app import seeded_jobs as seed
from tests.app.live_service import Service
from tests.tiny_model import build_tiny_llama, write_text_dataset

pytestmark = pytest.mark.service


def open_job(page: Page, service: Service, job_id: str) -> None:
    page.goto(f"{service.url}/#/jobs/{job_id}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_with_no_jobs_the_page_says_so_and_offers_the_form(page: Page, service: Service) -> None:
    page.goto(service.url)
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    expect(page.get_by_role("button", name="Compress")).to_be_enabled()


def test_an_error_is_shown_at_the_field_that_it_names(page: Page, service: Service, tmp_path: Path) -> None:
    service.app.state.settings.allowed_roots = (tmp_path,)
    page.goto(service.url)
    page.get_by_label("Model", exact=True).fill(str(build_tiny_llama(tmp_path / "tiny", train_steps=0)))
    page.get_by_label("Memory budget").fill("0")
    page.get_by_role("button", name="Estimate").click()
    error = page.locator("[data-field=memory_budget] .field-error")
    expect(error).to_contain_text("not a positive number of bytes", timeout=60_000)
    expect(page.get_by_label("Memory budget")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Memory budget")).to_be_focused()


def test_a_setting_out_of_range_opens_the_settings_it_is_under(page: Page, service: Service, tmp_path: Path) -> None:
    service.app.state.settings.allowed_roots = (tmp_path,)
    page.goto(service.url)
    page.get_by_label("Model", exact=True).fill(str(tmp_path / "nothing"))
    page.get_by_label("Memory budget").fill("130MB")
    page.get_by_text("More settings").click()
    page.get_by_label("Search trials").fill("0")
    page.get_by_text("More settings").click()
    page.get_by_role("button", name="Estimate").click()
    expect(page.locator("[data-field='allocate.trials'] .field-error")).to_be_visible(timeout=60_000)


def test_a_file_is_uploaded_estimated_and_submitted_and_the_jobs_page_opens(
    page: Page, service: Service, tmp_path: Path
) -> None:
    model = build_tiny_llama(tmp_path / "tiny", train_steps=0)
    service.app.state.settings.allowed_roots = (tmp_path,)
    page.goto(service.url)
    page.get_by_label("Model", exact=True).fill(str(model))
    page.get_by_label("File to upload").set_input_files(write_text_dataset(tmp_path / "prose.txt"))
    page.get_by_label("Memory budget").fill("1kB")
    page.get_by_role("button", name="Estimate").click()
    expect(page.get_by_text("Does not fit the budget")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Use that budget").click()
    expect(page.get_by_text("Fits the budget")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Embeddings")).to_be_visible()
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page.get_by_text("Waiting for a worker")).to_be_visible(timeout=60_000)
    assert re.search(r"#/jobs/job_", page.url)


def test_a_job_is_followed_live_to_its_end(page: Page, service: Service) -> None:
    sessions = service.app.state.session_factory
    with sessions.begin() as session:
        job_id = seed.add_running_job(session).id
    open_job(page, service, job_id)
    expect(page.locator(".stages .running")).to_have_text("allocate40 %")
    expect(page.locator(".heat .cell")).to_have_count(seed.LAYERS + 1)  # and the embeddings
    with sessions.begin() as session:
        append_event(
            session, job_id, "stage_progress", {"stage": "allocate", "fraction": 0.8, "message": "trial 32 of 40"}
        )
        session.add(
            JobTrial(
                job_id=job_id,
                index=99,
                origin="random",
                precisions=seed.precisions_of(seed.GROUPS),
                bytes=10**8,
                loss=3.0,
            )
        )
    expect(page.get_by_text("trial 32 of 40")).to_be_visible()
    expect(page.locator(".stages .running")).to_have_text("allocate80 %")
    expect(page.locator("circle.trial")).to_have_count(17)
    with sessions.begin() as session:
        job = session.get_one(Job, job_id)
        job.status, job.finished_at = "cancelled", job.created_at
        append_event(session, job_id, "cancelled")
    expect(page.locator("h1 .badge")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


def test_a_finished_job_shows_its_table_and_its_file_can_be_downloaded(
    page: Page, service: Service, tmp_path: Path
) -> None:
    content = b"weights " * 5000
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "mixed.tar").write_bytes(content)
    store = service.app.state.store
    store.check()  # database and store get to know each other before there are files
    with service.app.state.session_factory.begin() as session:
        job_id = seed.add_finished_job(session, store, content, sha256).id
    store.put_file(f"jobs/{job_id}/artifacts/mixed.tar", tmp_path / "mixed.tar")
    open_job(page, service, job_id)
    expect(page.locator("tr.final")).to_contain_text("final128.4 MB−52 %29.70")
    expect(page.locator("tr.final")).to_contain_text("0.37081.0 %")
    expect(page.get_by_text('load_compressed("mixed")')).to_be_visible()
    expect(page.get_by_text("tar -xf mixed.tar")).to_be_visible()
    expect(page.locator("circle.trial")).to_have_count(40)
    expect(page.get_by_role("img", name=re.compile("Recovery loss"))).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("button", name="Download mixed.tar").click()
    download = started.value
    assert download.suggested_filename == "mixed.tar"
    assert hashlib.sha256(Path(download.path()).read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize(
    ("granularity", "rows"),
    [
        ("block", ["Attention", "MLP"]),
        ("module", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    ],
)
def test_the_precisions_of_parts_of_layers_are_rows_and_what_is_outside_the_layers_stands_beside(
    granularity: str, rows: list[str], page: Page, service: Service
) -> None:
    groups = seed.group_names(granularity, head=True)
    with service.app.state.session_factory.begin() as session:
        job_id = seed.add_running_job(session, groups).id
        best = min(list_trials(session, job_id), key=lambda trial: trial.loss)
    precisions = dict(zip(groups, best.precisions, strict=True))
    page.set_viewport_size({"width": 360, "height": 740})
    open_job(page, service, job_id)
    expect(page.get_by_role("heading", name=f"Precision of each {granularity}, best so far")).to_be_visible()
    expect(page.locator(".heat tbody th")).to_have_text(rows)
    expect(page.locator(".heat tbody .cell")).to_have_count(seed.LAYERS * len(rows))
    second_part = seed.PARTS[granularity][1]
    for layer, cell in enumerate(page.locator(".heat tbody tr").nth(1).locator("td").all()):
        said = f"Layer {layer}, {rows[1]}: {precisions[f'layers.{layer}{second_part}']}"
        expect(cell).to_have_accessible_name(said)
    expect(page.locator(".outside")).to_have_text(re.compile("Embeddings.*Head"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_cell_names_what_modules_are_stored_in_where_their_shapes_do_not_fit_the_option(
    page: Page, service: Service
) -> None:
    with service.app.state.session_factory.begin() as session:
        job = seed.add_finished_job(session, service.app.state.store, b"x", "0" * 64)
        stored = [["iq4_nl", "q5_0"], *(["q4_k"] for _ in seed.GROUPS[1:])]
        job.result = {**(job.result or {}), "precisions": ["q4_k" for _ in seed.GROUPS], "stored": stored}
        job_id = job.id
    open_job(page, service, job_id)
    cells = page.locator(".heat .strip .cell")
    expect(cells.nth(0)).to_have_accessible_name(re.compile(r"^Layer 0: iq4_nl \+ q5_0"))
    expect(cells.nth(0).locator("b")).to_have_text("4MIX")
    expect(cells.nth(1)).to_have_accessible_name(re.compile("^Layer 1: q4_k"))
    expect(page.get_by_text("iq4_nl + q5_0: 1 layer")).to_be_visible()


def test_precisions_of_the_same_bits_are_told_apart_by_a_second_line_and_a_shade(page: Page, service: Service) -> None:
    kinds = ["q3_k", "iq4_xs", "q4_k", "q8_0", "bf16"]
    with service.app.state.session_factory.begin() as session:
        job = seed.add_finished_job(session, service.app.state.store, b"x", "0" * 64)
        precisions = [kinds[index % len(kinds)] for index in range(len(seed.GROUPS))]
        job.result = {**(job.result or {}), "precisions": precisions}
        job.config = {**job.config, "target": "gguf"}
        job_id = job.id
    open_job(page, service, job_id)
    expect(page.locator(".facts")).to_contain_text("Targetgguf")
    cells = page.locator(".heat .strip .cell b")
    expect(cells.nth(0)).to_have_text("3K")
    expect(cells.nth(1)).to_have_text("4XS")
    expect(cells.nth(2)).to_have_text("4K")
    backgrounds = [cells.nth(index).evaluate("node => getComputedStyle(node).backgroundColor") for index in range(5)]
    assert len(set(backgrounds)) == 5
    dots = page.locator(".legend .dot[class*='bits-']").all()
    assert {dot.evaluate("node => getComputedStyle(node).backgroundColor") for dot in dots} == set(backgrounds)
    overflowing = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth).length"
    assert cells.evaluate_all(overflowing) == 0


def test_rows_say_which_engine_was_timed_where_it_was_not_torch(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        job = seed.add_finished_job(session, service.app.state.store, b"x", "0" * 64)
        rows = [{**row, "speed_engine": "torch"} for row in (job.result or {})["measurements"]]
        rows[-1] |= {"speed_engine": "llama.cpp", "prefill_tokens_per_second": 81.5}
        job.result = {**(job.result or {}), "measurements": rows}
        job_id = job.id
    open_job(page, service, job_id)
    expect(page.locator("tr.final")).to_contain_text("llama.cpp")
    expect(page.locator("tr.dense")).to_contain_text("torch")
    expect(page.get_by_text("llama.cpp reads a prompt at 81.5 tokens per second.")).to_be_visible()


def test_a_trial_that_was_stopped_early_is_told_apart_and_is_never_the_best(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        job_id = seed.add_running_job(session).id
        all_wide = ["bf16" for _ in seed.GROUPS]
        trial = JobTrial(
            job_id=job_id, index=99, origin="random", precisions=all_wide, bytes=10**8, loss=0.01, stopped_early=True
        )
        session.add(trial)
    open_job(page, service, job_id)
    expect(page.locator("circle.trial")).to_have_count(17)
    expect(page.locator("circle.stopped title")).to_have_text(re.compile("^Trial 99 .* stopped early$"))
    expect(page.locator(".heat .bits-4")).not_to_have_count(0)


def test_recovery_learning_from_predictions_has_a_scale_for_each_of_its_losses(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        job_id = seed.add_running_job(session).id
        for name, first in (("finetune.loss", 0.4), ("finetune.validation_loss", 3.4)):
            for step in (0, 1):
                session.add(JobMetric(job_id=job_id, name=name, step=step, value=first - 0.1 * step))
    open_job(page, service, job_id)
    expect(page.get_by_role("img", name="Recovery loss: training from 0.40 to 0.30")).to_be_visible()
    expect(page.get_by_role("img", name="Recovery loss: held-back text from 3.40 to 3.30")).to_be_visible()


def test_a_failed_job_says_what_is_wrong_and_what_to_do_and_can_be_tried_again(page: Page, service: Service) -> None:
    uploaded = httpx.post(f"{service.url}/datasets", files={"file": ("prose.txt", b"Once upon a time.")}).json()
    with service.app.state.session_factory.begin() as session:
        job = seed.add_failed_job(session)
        job_id, job.dataset = job.id, uploaded["id"]
    open_job(page, service, job_id)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The loss became NaN at step 31.")
    expect(alert).to_contain_text("Lower finetune.learning_rate and retry")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("h1 .badge")).to_have_text("queued")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1 .badge")).to_have_text("cancelled")


def test_deleting_asks_first_and_leads_back_to_the_list(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        job_id = seed.add_failed_job(session).id
    open_job(page, service, job_id)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("h1 .badge")).to_have_text("failed")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("No jobs yet")).to_be_visible()


def test_a_service_with_keys_asks_for_one_and_follows_a_job_with_it(page: Page, keyed_service: Service) -> None:
    with keyed_service.app.state.session_factory.begin() as session:
        job_id = seed.add_running_job(session).id
        signing_key = load_signing_key(keyed_service.app.state.settings)
        _, key = create_key(session, signing_key, DEFAULT_TENANT, "browser", ["read"])
    page.goto(f"{keyed_service.url}/#/jobs/{job_id}")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This service needs an API key.")
    dialog.get_by_label("Key").fill("qp_wrong")
    dialog.get_by_label("Key").press("Enter")
    expect(dialog).to_contain_text("mistyped or unknown")
    dialog.get_by_label("Key").fill(key)
    dialog.get_by_label("Key").press("Enter")
    expect(page.locator(".stages .running")).to_have_text("allocate40 %")
    expect(page.get_by_role("button", name="API key ✓")).to_be_visible()


def test_markup_in_a_jobs_data_stays_text(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        job_id = seed.add_job(session, "queued", model="<img src=x onerror=alert(1)>").id
    open_job(page, service, job_id)
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img").count() == 0


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page, service: Service) -> None:
    with service.app.state.session_factory.begin() as session:
        job_id = seed.add_running_job(session).id
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/", f"/#/jobs/{job_id}"):
        page.goto(service.url + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
