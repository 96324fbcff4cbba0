// What there is beside jobs: storage, uploads, webhooks, API keys, and who changed what.

import { getJson } from "./api.js";
import { el, replace } from "./dom.js";
import { bytes, clock, count } from "./format.js";
import { keysCard } from "./manage_keys.js";
import { uploadsCard } from "./manage_uploads.js";
import { webhooksCard } from "./manage_webhooks.js";
import { pagedList } from "./paged.js";

const PARTS = [
  ["datasets_bytes", "Datasets", "layers"], ["models_bytes", "Models", "embeddings"],
  ["artifacts_bytes", "Files of jobs", "quantization_constants"], ["stages_bytes", "Reusable stages", "norms"],
];
const KEPT = [["keep_artifacts_days", "files of jobs"], ["keep_stages_days", "stages"], ["keep_events_days", "histories"]];

/** Show a card for each. */
export function showManagement(main, signal) {
  document.title = "Manage · QPruner";
  const storage = el("section", { class: "card", "aria-label": "Storage" });
  const showStorage = () => loadStorage(storage, signal);
  showStorage();
  replace(main, el("div", { class: "manage" },
    el("h1", {}, "Manage"),
    storage,
    uploadsCard({ path: "/datasets", key: "datasets", title: "Datasets", empty: "No datasets yet. Upload one in the job form.", onChange: showStorage }, signal),
    uploadsCard({ path: "/models", key: "models", title: "Models", empty: "No models yet. Upload one with “qpruner models upload”.", onChange: showStorage }, signal),
    webhooksCard(signal),
    keysCard(signal),
    auditCard(signal)));
}

async function loadStorage(card, signal) {
  try {
    const used = await getJson("/storage", signal);
    if (!signal.aborted) replace(card, el("h2", {}, "Storage"), storageView(used));
  } catch (error) {
    if (!signal.aborted) replace(card, el("h2", {}, "Storage"), el("p", { class: "alert" }, error.message));
  }
}

function storageView(used) {
  const { total_bytes: total, limit_bytes: limit } = used;
  const parts = PARTS.filter(([name]) => used[name] !== undefined);
  const says = limit ? `${bytes(total)} of ${bytes(limit)}` : `${bytes(total)}, without a limit`;
  const bar = el("div", { class: "stack", role: "img", "aria-label": `Stored: ${says}` });
  for (const [name, , colour] of parts.filter(([one]) => used[one] > 0)) {
    const piece = el("span", { class: `part ${colour}` });
    piece.style.flexGrow = String(used[name]);
    bar.append(piece);
  }
  if (limit || !total) {
    const free = el("span", { class: "part free" });
    free.style.flexGrow = String(limit ? Math.max(0, limit - total) : 1);
    bar.append(free);
  }
  const kept = KEPT.map(([name, label]) => `${label} ${used[name] === null ? "until they are deleted" : `for ${count(used[name])} days`}`);
  const limited = KEPT.some(([name]) => used[name] !== null);
  return [
    el("p", {}, el("strong", {}, says)),
    bar,
    el("dl", { class: "parts" }, parts.map(([name, label, colour]) =>
      el("div", {}, el("dt", {}, el("i", { class: `dot ${colour}` }), label), el("dd", {}, bytes(used[name]))))),
    el("p", { class: "muted small" }, limited ? `Kept after a job has ended: ${kept.join(", ")}.` : "All of it is kept until it is deleted."),
  ];
}

function auditCard(signal) {
  const card = el("details", { class: "card" }, el("summary", {}, "Who changed what"));
  const row = (entry) => el("li", {},
    el("time", { class: "muted small", datetime: entry.at }, clock(entry.at)), el("strong", {}, entry.action),
    el("code", {}, entry.target), el("span", { class: "muted small" }, "by ", el("code", {}, entry.actor)));
  card.append(pagedList({ path: "/audit", key: "entries", row, empty: "Nothing yet.", label: "Changes", within: card, cursor: ["next_before", "before"] }, signal).node);
  return card;
}
