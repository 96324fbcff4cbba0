// The list of jobs: searched and filtered by what the address says, a page at a time, the newest first.

import { getJson } from "./api.js";
import { el, replace } from "./dom.js";
import { ago, bytes, change, percent, shortName } from "./format.js";

const REFRESH = 3000;
const PAGE = 20;
const FILTERS = ["q", "status", "from", "to"];

/**
 * A search form, a list and links between its pages. Filters live in the address, below the view's path; linkOf(job) is
 * where a row leads. {node, update(query)}: update shows what another address of the same view says.
 */
export function jobList({ path, query, linkOf, leaveOut }, signal) {
  const list = el("div", { id: "job-list", "aria-live": "polite", "aria-busy": "true" });
  const pager = el("nav", { class: "row between", "aria-label": "Pages of jobs" });
  const form = searchForm(query);
  const view = { path, linkOf, leaveOut, query, list, pager, signal, trail: [], latest: 0 };
  const search = () => {
    view.query = new URLSearchParams(view.query);
    for (const name of FILTERS) {
      const value = form.elements[name].value.trim();
      if (value) view.query.set(name, value);
      else view.query.delete(name);
    }
    view.query.delete("cursor");
    view.trail = [];
    history.replaceState(null, "", addressOf(view, ""));
    load(view);
  };
  let timer;
  form.addEventListener("submit", (event) => (event.preventDefault(), search()));
  form.addEventListener("change", search);
  form.addEventListener("input", (event) => {
    clearTimeout(timer);
    if (event.target.name === "q") timer = setTimeout(search, 250);
  });
  const update = (next) => {
    view.query = next;
    follow(view);
    for (const name of FILTERS) form.elements[name].value = next.get(name) ?? "";
    load(view);
  };
  update(query);
  const refresh = setInterval(() => document.hidden || load(view), REFRESH);
  signal.addEventListener("abort", () => (clearInterval(refresh), clearTimeout(timer)));
  return { node: el("div", { class: "job-list" }, form, list, pager), update };
}

function searchForm(query) {
  const dates = Boolean(query.get("from") || query.get("to"));
  const date = (name, label) => el("label", { class: "inline" }, label, " ", el("input", { type: "date", name }));
  return el("form", { class: "search", role: "search", "aria-label": "Jobs" },
    el("div", { class: "row" },
      el("input", { type: "search", name: "q", "aria-label": "Search jobs", placeholder: "Model, label or id", autocomplete: "off", spellcheck: "false" }),
      el("select", { name: "status", id: "status-filter", "aria-label": "Show jobs of this status" },
        el("option", { value: "" }, "all"), ["queued", "running", "succeeded", "failed", "cancelled"].map((name) => el("option", { value: name }, name)))),
    el("details", { class: "small", open: dates }, el("summary", {}, "Dates"), el("div", { class: "row wrap" }, date("from", "From"), date("to", "To"))));
}

/** Remember the way to this page, so that there is one back. */
function follow(view) {
  const cursor = view.query.get("cursor");
  const known = view.trail.indexOf(cursor);
  if (!cursor) view.trail = [];
  else if (known >= 0) view.trail.length = known + 1;
  else view.trail.push(cursor);
}

function addressOf({ path, query }, cursor) {
  const next = new URLSearchParams(query);
  next.delete("cursor");
  if (cursor) next.set("cursor", cursor);
  const text = next.toString();
  return text ? `${path}?${text}` : path;
}

/** The query of a request for the page that the address names; dates are days where the reader is. */
function requestOf(query) {
  const asked = new URLSearchParams({ limit: String(PAGE) });
  for (const name of ["q", "status", "cursor"]) if (query.get(name)) asked.set(name, query.get(name));
  const day = (name, offset, more) => {
    const [year, month, date] = (query.get(name) ?? "").split("-").map(Number);
    return date ? new Date(new Date(year, month - 1, date + offset).getTime() + more).toISOString() : null;
  };
  const bounds = { created_after: day("from", 0, -1), created_before: day("to", 1, 0) };
  for (const [name, moment] of Object.entries(bounds)) if (moment) asked.set(name, moment);
  return asked;
}

async function load(view) {
  const { list, pager, query, trail, signal } = view;
  const turn = ++view.latest;
  try {
    const page = await getJson(`/jobs?${requestOf(query)}`, signal);
    if (signal.aborted || turn !== view.latest) return;
    const jobs = page.jobs.filter((job) => job.id !== view.leaveOut);
    replace(list, jobs.length ? el("ul", { class: "jobs" }, jobs.map((job) => jobRow(job, view.linkOf(job)))) : emptyList(query));
    replace(pager,
      query.get("cursor") ? el("a", { href: addressOf(view, trail.at(-2)) }, trail.length > 1 ? "← Newer" : "← Newest") : el("span"),
      trail.length > 0 && el("span", { class: "muted small" }, `Page ${trail.length + 1}`),
      page.next_cursor ? el("a", { href: addressOf(view, page.next_cursor) }, "Older →") : el("span"));
  } catch (error) {
    if (signal.aborted || turn !== view.latest) return;
    replace(list, el("p", { class: "alert" }, error.message));
  }
  list.removeAttribute("aria-busy");
}

function emptyList(query) {
  if ([...FILTERS, "cursor"].some((name) => query.get(name))) return el("p", { class: "empty muted" }, "No job matches.");
  return el("div", { class: "empty" },
    el("p", { class: "big" }, "No jobs yet"),
    el("p", { class: "muted" }, "Give a model, some text and a budget; the first job shows up here and can be watched live."));
}

function jobRow(job, href) {
  const open = job.status === "running" || job.status === "queued";
  const labels = Object.entries(job.labels);
  return el("li", {},
    el("a", { class: "job-row", href },
      el("span", { class: "row between" }, el("span", { class: "job-model" }, shortName(job.model)), badge(job)),
      open && el("progress", { max: 1, value: job.progress, "aria-label": `Progress of ${job.id}` }),
      el("span", { class: "row between muted small" },
        el("span", {}, summary(job)),
        el("time", { datetime: job.created_at }, ago(job.created_at))),
      labels.length > 0 && el("span", { class: "tags small" }, labels.map(([key, value]) => el("span", { class: "tag" }, `${key}:${value}`)))));
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
