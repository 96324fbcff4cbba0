// API keys of the tenant, for its administrators.

import { postJson, remove } from "./api.js";
import { confirmed, copyButton, el, replace } from "./dom.js";
import { ago, clock } from "./format.js";
import { actionButton, pagedList } from "./paged.js";
import { clearFaults, showFaults } from "./field_faults.js";

const SCOPES = { read: "see jobs and files", submit: "read, and submit jobs", metrics: "read the metrics", admin: "everything, keys as well" };

/** A card with the keys and a form for a new one; it hides itself from those who may not see them. */
export function keysCard(signal) {
  const card = el("section", { class: "card", "aria-label": "API keys" }, el("h2", {}, "API keys"));
  const revoke = async (one) => {
    if (!(await confirmed(`Revoke “${one.name}”?`, "Requests with this key are refused from now on.", "Revoke it"))) return;
    await remove(`/keys/${one.id}`);
    list.reload();
  };
  const row = (one) => el("li", {},
    el("span", { class: "grow" }, el("strong", {}, one.name), " ",
      el("span", { class: "muted small" }, [one.scopes.join(", "), `made ${ago(one.created_at)}`, one.expires_at ? `expires ${clock(one.expires_at)}` : "never expires"].join(" · "))),
    el("code", {}, `qp_${one.prefix}_…`),
    one.state === "usable" ? actionButton("Revoke", () => revoke(one), { about: one.name }) : el("span", { class: "badge" }, one.state));
  const list = pagedList({ path: "/keys", key: "keys", row, empty: "There are no keys.", label: "API keys", within: card }, signal);
  card.append(list.node, newKey(list.reload));
  return card;
}

function newKey(onMade) {
  const made = el("div", { "aria-live": "polite" });
  const problem = el("p", { class: "alert", role: "alert", hidden: true });
  const text = (name, label, attributes) => el("div", { class: "field", "data-field": name },
    el("label", { for: `key-${name}` }, label),
    el("input", { id: `key-${name}`, name, autocomplete: "off", "aria-describedby": `key-${name}-error`, ...attributes }),
    el("p", { class: "field-error", id: `key-${name}-error`, hidden: true }));
  const form = el("form", { novalidate: true },
    el("div", { class: "grid" },
      text("name", "Name of the user or program", { type: "text", maxlength: 255 }),
      el("div", { class: "field", "data-field": "scopes" }, el("label", { for: "key-scopes" }, "It may"),
        el("select", { id: "key-scopes", name: "scopes" }, Object.entries(SCOPES).map(([value, says]) => el("option", { value, selected: value === "submit" }, `${value} (${says})`))),
        el("p", { class: "field-error", hidden: true })),
      text("days", "Days until it expires", { type: "number", min: 1, step: 1, placeholder: "never" })),
    problem, el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Make the key")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearFaults(form, problem);
    const { name, scopes, days } = form.elements;
    try {
      const body = { name: name.value.trim(), scopes: [scopes.value], ...(days.value && { days: Number(days.value) }) };
      const { key } = await postJson("/keys", body);
      form.reset();
      replace(made, el("p", {}, "The key, which will not be shown again:"), el("div", { class: "command" }, el("pre", {}, key), copyButton(key, "Copy the key")));
      onMade();
    } catch (error) {
      showFaults(form, problem, error.faults ?? [{ field: null, message: error.message }]);
    }
  });
  return el("details", {}, el("summary", {}, "Make a key"), form, made);
}
