// Webhooks: where events are sent, what came of it, and the secret that they are signed by.

import { getJson, patchJson, postJson, remove } from "./api.js";
import { confirmed, copyButton, el, notify, replace } from "./dom.js";
import { clearFaults, showFaults } from "./field_faults.js";
import { ago } from "./format.js";
import { actionButton, pagedList } from "./paged.js";

const ENDINGS = ["job.succeeded", "job.failed", "job.cancelled"];
const EVENTS = [...ENDINGS, "job.queued", "job.started", "job.stage_started", "job.stage_finished", "job.warning", "job.attempt_lost", "job.cancel_requested", "job.retried"];

/** A card with all webhooks and a form for a new one. */
export function webhooksCard(signal) {
  const card = el("section", { class: "card", "aria-label": "Webhooks" }, el("h2", {}, "Webhooks"));
  const row = (one) => webhookRow(one, () => list.reload(), signal);
  const list = pagedList({ path: "/webhooks", key: "webhooks", row, empty: "None yet: a webhook sends the events of your jobs to an address of yours.", label: "Webhooks", within: card }, signal);
  card.append(list.node, newWebhook(list.reload));
  return card;
}

function webhookRow(one, reload, signal) {
  const path = `/webhooks/${one.id}`;
  const below = el("div", { class: "below", "aria-live": "polite" });
  const erase = async () => {
    if (!(await confirmed("Delete this webhook?", `Nothing is sent to ${one.url} any more, and its deliveries are forgotten.`, "Delete it"))) return;
    await remove(path);
    reload();
  };
  const showSecret = (secret) => replace(below, el("div", { class: "command" }, el("pre", {}, secret), copyButton(secret, "Copy the secret")));
  const rotate = async () => {
    if (!(await confirmed("Replace the secret?", "For a day messages are signed by the old one as well.", "Replace it"))) return;
    showSecret((await postJson(`${path}/secret/rotate`)).secret);
  };
  const test = async () => {
    await postJson(`${path}/test`);
    notify("A test message is on its way; “Deliveries” shows the result.");
  };
  return el("li", {},
    el("span", { class: "grow" }, el("strong", { class: "break" }, one.url), " ", !one.enabled && el("span", { class: "badge" }, "off"),
      el("span", { class: "muted small block" }, `${one.events.map((name) => name.replace("job.", "").replaceAll("_", " ")).join(", ")} · of ${one.job_id ? one.job_id : "all jobs"}`)),
    el("span", { class: "actions" },
      actionButton(one.enabled ? "Turn off" : "Turn on", async () => (await patchJson(path, { enabled: !one.enabled }), reload()), { about: one.url }),
      actionButton("Test", test, { about: one.url }),
      actionButton("Deliveries", () => replace(below, deliveries(path, signal)), { about: one.url }),
      actionButton("Secret", async () => showSecret((await getJson(`${path}/secret`)).secret), { about: one.url }),
      actionButton("Replace secret", rotate, { about: one.url }),
      actionButton("Delete", erase, { about: one.url })),
    below);
}

function deliveries(path, signal) {
  const row = (one) => el("li", {},
    el("span", { class: `badge ${{ delivered: "succeeded", failed: "failed" }[one.status] ?? ""}` }, one.status),
    el("span", { class: "grow" }, one.type, " ", el("span", { class: "muted small" },
      [one.payload.data?.job_id ?? one.payload.data?.id, `${one.attempts} ${one.attempts === 1 ? "attempt" : "attempts"}`, one.response_status && `status ${one.response_status}`, one.error, ago(one.created_at)].filter(Boolean).join(" · "))),
    actionButton("Send again", async () => (await postJson(`${path}/deliveries/${one.id}/resend`), list.reload()), { about: one.id }));
  const list = pagedList({ path: `${path}/deliveries`, key: "deliveries", row, empty: "Nothing was sent yet.", label: "Deliveries" }, signal);
  return [list.node, el("div", { class: "actions" }, actionButton("Refresh", async () => list.reload(), { about: "deliveries" }))];
}

function newWebhook(onMade) {
  const problem = el("p", { class: "alert", role: "alert", hidden: true });
  const choice = (name) => el("label", { class: "choice" },
    el("input", { type: "checkbox", name: "events", value: name, checked: ENDINGS.includes(name) }), name.replace("job.", "").replaceAll("_", " "));
  const form = el("form", { novalidate: true },
    el("div", { class: "field", "data-field": "url" },
      el("label", { for: "webhook-url" }, "Address"),
      el("input", { id: "webhook-url", name: "url", type: "text", inputmode: "url", autocomplete: "off", spellcheck: "false", "aria-describedby": "webhook-url-hint webhook-url-error" }),
      el("p", { class: "hint", id: "webhook-url-hint" }, "Where messages are sent, by https"),
      el("p", { class: "field-error", id: "webhook-url-error", hidden: true })),
    el("fieldset", { class: "field", "data-field": "events" }, el("legend", {}, "Events"),
      el("div", { class: "choices" }, EVENTS.map(choice)), el("p", { class: "field-error", hidden: true })),
    problem, el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Add the webhook")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearFaults(form, problem);
    const events = [...form.querySelectorAll("input[name=events]:checked")].map((input) => input.value);
    try {
      await postJson("/webhooks", { url: form.elements.url.value.trim(), events });
      form.reset();
      onMade();
    } catch (error) {
      showFaults(form, problem, error.faults ?? [{ field: null, message: error.message }]);
    }
  });
  return el("details", {}, el("summary", {}, "Add a webhook"), form);
}
