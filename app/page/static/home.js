// The first view: a form to compress a model beside the list of jobs.

import { getJson } from "./api.js";
import { el, replace } from "./dom.js";
import { ago, bytes, change, percent, shortName } from "./format.js";
import { jobForm } from "./job_form.js";

const REFRESH = 3000;

export function showHome(main, signal) {
  document.title = "QPruner";
  const list = el("div", { id: "job-list", "aria-live": "polite", "aria-busy": "true" });
  const filter = el("select", { id: "status-filter", "aria-label": "Show jobs of this status" },
    ["all", "queued", "running", "succeeded", "failed", "cancelled"].map((name) => el("option", { value: name }, name)));
  const more = el("button", { type: "button", class: "quiet", hidden: true }, "Show older jobs");
  const state = { limit: 20 };
  const load = () => loadJobs(list, more, filter.value, state, signal);
  filter.addEventListener("change", load);
  more.addEventListener("click", () => ((state.limit = Math.min(100, state.limit + 20)), load()));
  replace(main,
    el("div", { class: "home" },
      el("section", { class: "card", "aria-labelledby": "form-title" },
        el("h1", { id: "form-title" }, "Compress a model"),
        el("p", { class: "muted" }, "Prunes, gives each part its own precision and trains the loss back, so that the loaded model fits your budget."),
        jobForm(signal)),
      el("section", { class: "card", "aria-labelledby": "jobs-title" },
        el("div", { class: "row between" }, el("h2", { id: "jobs-title" }, "Jobs"), filter),
        list, more)));
  load();
  const timer = setInterval(() => document.hidden || load(), REFRESH);
  signal.addEventListener("abort", () => clearInterval(timer));
}

async function loadJobs(list, more, status, state, signal) {
  const query = new URLSearchParams({ limit: String(state.limit) });
  if (status !== "all") query.set("status", status);
  try {
    const page = await getJson(`/jobs?${query}`, signal);
    if (signal.aborted) return;
    replace(list, page.jobs.length ? el("ul", { class: "jobs" }, page.jobs.map(jobRow)) : emptyList(status));
    more.hidden = !page.next_cursor || state.limit >= 100;
  } catch (error) {
    if (signal.aborted) return;
    replace(list, el("p", { class: "alert" }, error.message));
  }
  list.removeAttribute("aria-busy");
}

function emptyList(status) {
  return status === "all"
    ? el("div", { class: "empty" },
        el("p", { class: "big" }, "No jobs yet"),
        el("p", { class: "muted" }, "Give a model, some text and a budget; the first job shows up here and can be watched live."))
    : el("p", { class: "empty muted" }, `No ${status} jobs.`);
}

function jobRow(job) {
  const open = job.status === "running" || job.status === "queued";
  return el("li", {},
    el("a", { class: "job-row", href: `#/jobs/${job.id}` },
      el("span", { class: "row between" },
        el("span", { class: "job-model" }, shortName(job.model)),
        badge(job)),
      open && el("progress", { max: 1, value: job.progress, "aria-label": `Progress of ${job.id}` }),
      el("span", { class: "row between muted small" },
        el("span", {}, summary(job)),
        el("time", { datetime: job.created_at }, ago(job.created_at)))));
}

function summary(job) {
  if (job.status === "running") return `${job.stage ?? "starting"} · ${percent(job.progress)}`;
  if (job.status === "failed") return job.error?.message ?? "failed";
  if (job.dense_bytes && job.final_bytes) {
    return `${bytes(job.dense_bytes)} → ${bytes(job.final_bytes)} (${change(job.final_bytes, job.dense_bytes)})`;
  }
  return `budget ${bytes(job.memory_budget)}`;
}

/** What state a job is in, as a coloured word. */
export function badge(job) {
  const name = job.cancel_requested && job.status === "running" ? "cancelling" : job.status;
  return el("span", { class: `badge ${name}` }, name);
}
