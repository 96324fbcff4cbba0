"""Storage, uploads, webhooks and keys are looked after on the page."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from app.database import utc_now
from app.ids import new_id
from app.keys.service import DEFAULT_TENANT, create_key
from app.secrets import load_signing_key
from app.uploads.models import Upload
from tests.app import seeded_jobs as seed
from tests.app.live_service import Service
from tests.app.webhooks.receiver import run_receiver
from tests.tiny_model import write_text_dataset

pytestmark = pytest.mark.service


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def confirm(page: Page, button: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=button).click()


def test_what_is_stored_is_shown_and_a_dataset_can_be_deleted(page: Page, service: Service, tmp_path: Path) -> None:
    prose = write_text_dataset(tmp_path / "prose.txt")
    files = {"file": {"name": "prose.txt", "mimeType": "text/plain", "buffer": prose.read_bytes()}}
    assert page.request.post(f"{service.url}/datasets", multipart=files).status == 201
    with service.app.state.session_factory.begin() as session:
        seed.add_finished_job(session, service.app.state.store, b"x" * 4000, "0" * 64)
    page.goto(service.url)
    page.get_by_role("link", name="Manage").click()
    expect(page.get_by_role("heading", name="Manage")).to_be_visible()
    expect(card(page, "Storage")).to_contain_text("Files of jobs4.0 kB")
    expect(card(page, "Storage")).to_contain_text("without a limit")
    expect(card(page, "Datasets")).to_contain_text("prose.txt")
    card(page, "Datasets").get_by_role("button", name="Delete prose.txt").click()
    confirm(page, "Delete it")
    expect(card(page, "Datasets")).to_contain_text("No datasets yet")
    expect(page.locator("#notice")).to_contain_text("Deleted. That frees")
    expect(card(page, "Storage")).to_contain_text("Datasets0 B")


def test_models_are_listed_with_what_became_of_them_and_deleted(page: Page, service: Service) -> None:
    now = utc_now()
    error = {"code": "unsafe_model", "message": "It has pickled weights.", "field": "model", "remedy": "", "user": True}
    with service.app.state.session_factory.begin() as session:
        for name, status, facts, fault in (
            ("ours", "ready", {"config": {"model_type": "llama"}}, None),
            ("bad", "failed", None, error),
        ):
            session.add(
                Upload(
                    id=new_id("md"), tenant=DEFAULT_TENANT, name=name, status=status, bytes=4_000_000, part_bytes=2**20,
                    facts=facts, error=fault, created_at=now, used_at=now,
                )
            )  # fmt: skip
    page.goto(f"{service.url}/#/manage")
    models = card(page, "Models")
    expect(models).to_contain_text("ours llama · 4.0 MB")
    expect(models).to_contain_text("bad failed · 4.0 MB")
    expect(models).to_contain_text("It has pickled weights.")
    models.get_by_role("button", name="Delete ours").click()
    confirm(page, "Delete it")
    expect(page.locator("#notice")).to_contain_text("That frees 4.0 MB.")
    expect(models).not_to_contain_text("ours")


def test_a_webhook_is_added_tried_turned_off_and_deleted(page: Page, service: Service) -> None:
    service.app.state.settings.webhook_networks = (ip_network("127.0.0.0/8"),)
    with run_receiver() as receiver:
        page.goto(f"{service.url}/#/manage")
        hooks = card(page, "Webhooks")
        hooks.get_by_text("Add a webhook").click()
        hooks.get_by_role("button", name="Add the webhook").click()
        expect(hooks.locator("[data-field=url] .field-error")).to_have_text(re.compile("It is empty"))
        hooks.get_by_label("Address").fill(receiver.url)
        hooks.get_by_label("queued").check()
        hooks.get_by_role("button", name="Add the webhook").click()
        row = hooks.get_by_role("list", name="Webhooks", exact=True)
        expect(row).to_contain_text("queued, cancelled, failed, succeeded · of all jobs")
        hooks.get_by_role("button", name=f"Secret {receiver.url}", exact=True).click()
        expect(row.locator("pre")).to_have_text(re.compile("^whsec_"))
        hooks.get_by_role("button", name=f"Test {receiver.url}").click()
        expect(page.locator("#notice")).to_contain_text("A test message is on its way")
        deliveries = hooks.get_by_role("list", name="Deliveries")
        hooks.get_by_role("button", name=f"Deliveries {receiver.url}").click()
        expect(deliveries).to_contain_text("webhook.test")
        while "delivered" not in deliveries.inner_text():
            hooks.get_by_role("button", name="Refresh deliveries").click()
            page.wait_for_timeout(100)
        assert [json.loads(body)["type"] for _, body, _ in receiver.received] == ["webhook.test"]
        deliveries.get_by_role("button", name=re.compile("^Send again")).click()
        expect(deliveries).to_contain_text(re.compile("pending|2 attempts"))
    hooks.get_by_role("button", name=f"Turn off {receiver.url}").click()
    expect(hooks.get_by_role("button", name=f"Turn on {receiver.url}")).to_be_visible()
    hooks.get_by_role("button", name=f"Delete {receiver.url}").click()
    confirm(page, "Delete it")
    expect(hooks).to_contain_text("None yet")


def test_an_administrator_makes_and_revokes_keys_and_sees_who_did(page: Page, keyed_service: Service) -> None:
    state = keyed_service.app.state
    with state.session_factory.begin() as session:
        _, key = create_key(session, load_signing_key(state.settings), DEFAULT_TENANT, "root", ["admin"])
    page.goto(f"{keyed_service.url}/#/manage")
    page.get_by_role("dialog").get_by_label("Key").fill(key)
    page.get_by_role("dialog").get_by_label("Key").press("Enter")
    keys = card(page, "API keys")
    keys.get_by_text("Make a key").click()
    keys.get_by_role("button", name="Make the key").click()
    expect(keys.locator("[data-field=name] .field-error")).to_have_text(re.compile("It is empty"))
    keys.get_by_label("Name of the user or program").fill("nightly tool")
    keys.get_by_label("It may").select_option("read")
    keys.get_by_label("Days until it expires").fill("30")
    keys.get_by_role("button", name="Make the key").click()
    made = keys.locator(".command pre")
    expect(made).to_have_text(re.compile("^qp_"))
    expect(keys.get_by_role("listitem").first).to_contain_text("nightly tool")
    headers = {"Authorization": f"Bearer {made.inner_text()}"}
    assert page.request.get(f"{keyed_service.url}/jobs", headers=headers).status == 200
    keys.get_by_role("button", name="Revoke nightly tool").click()
    confirm(page, "Revoke it")
    expect(keys.get_by_role("listitem").first).to_contain_text("revoked")
    assert page.request.get(f"{keyed_service.url}/jobs", headers=headers).status == 401
    page.reload()
    page.get_by_text("Who changed what").click()
    changes = page.get_by_role("list", name="Changes").get_by_role("listitem")
    expect(changes.first).to_contain_text("key.revoke")
    expect(changes.nth(1)).to_contain_text("key.create")


def test_who_is_no_administrator_sees_neither_keys_nor_changes(page: Page, keyed_service: Service) -> None:
    state = keyed_service.app.state
    with state.session_factory.begin() as session:
        _, key = create_key(session, load_signing_key(state.settings), DEFAULT_TENANT, "user", ["submit"])
    page.goto(f"{keyed_service.url}/#/manage")
    page.get_by_role("dialog").get_by_label("Key").fill(key)
    page.get_by_role("dialog").get_by_label("Key").press("Enter")
    expect(card(page, "Webhooks")).to_contain_text("None yet")
    expect(card(page, "API keys")).to_be_hidden()
    expect(page.get_by_text("Who changed what")).to_be_hidden()


_HOLD_A_REFUSAL = """
const send = window.fetch;
window.fetch = async (...request) => {
  const response = await send(...request);
  if (response.status === 401 && !window.deliver) {
    const whole = response.json.bind(response);
    response.json = () => new Promise((resolve) => (window.deliver = () => resolve(whole())));
  }
  return response;
};
"""
"""Holds the body of the first refusal back until ``window.deliver()``."""


def test_a_refusal_that_comes_late_does_not_ask_again_for_a_key_that_was_given(
    page: Page, keyed_service: Service
) -> None:
    state = keyed_service.app.state
    with state.session_factory.begin() as session:
        _, key = create_key(session, load_signing_key(state.settings), DEFAULT_TENANT, "late", ["admin"])
    page.add_init_script(_HOLD_A_REFUSAL)
    page.goto(f"{keyed_service.url}/#/manage")
    page.get_by_role("dialog").get_by_label("Key").fill(key)
    page.get_by_role("dialog").get_by_label("Key").press("Enter")
    expect(card(page, "API keys").get_by_text("Make a key")).to_be_visible()
    page.evaluate("window.deliver()")
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")  # a second dialog would open meanwhile
    expect(page.get_by_role("dialog")).to_have_count(0)
