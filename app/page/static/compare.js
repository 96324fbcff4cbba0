// Two jobs side by side: what came out, where their settings differ, how long each stage took, and both maps.

import { getJson } from "./api.js";
import { el, replace } from "./dom.js";
import { bytes, change, clock, decimal, duration, shortName } from "./format.js";
import { heatMap } from "./heat_map.js";
import { badge, jobList } from "./job_list.js";

const NAMES = ["A", "B"];

/** Let the reader choose the job to compare another one with. */
export function showChoice(main, id, query, signal) {
  document.title = "Compare · QPruner";
  const jobs = jobList({ path: `#/compare/${id}`, query, linkOf: (job) => `#/compare/${id}/${job.id}`, leaveOut: id }, signal);
  replace(main, el("div", { class: "job" },
    el("a", { href: `#/jobs/${id}`, class: "back" }, "← The job"),
    el("h1", {}, "Compare with which job?"),
    el("section", { class: "card", "aria-label": "Jobs" }, jobs.node)));
  return jobs.update;
}

/** Show the jobs of both ids. */
export async function showComparison(main, ids, signal) {
  document.title = "Compare · QPruner";
  try {
    const jobs = await Promise.all(ids.map((id) => getJson(`/jobs/${id}`, signal)));
    if (!signal.aborted) replace(main, comparison(jobs));
  } catch (error) {
    if (signal.aborted) return;
    replace(main, el("section", { class: "card empty" },
      el("h1", {}, "The jobs cannot be compared"), el("p", { class: "muted" }, error.message), el("a", { href: "#/" }, "To the jobs")));
  }
}

function comparison(jobs) {
  const [first, second] = jobs;
  return el("div", { class: "job" },
    el("div", {},
      el("a", { href: "#/", class: "back" }, "← Jobs"),
      el("div", { class: "row between wrap" },
        el("h1", {}, "Compare two jobs"),
        el("div", { class: "actions" },
          el("a", { class: "button", href: `#/compare/${second.id}/${first.id}` }, "Swap"),
          el("a", { class: "button", href: `#/compare/${first.id}` }, "Another job")))),
    el("div", { class: "pair" }, jobs.map(card)),
    table("Results", results(jobs), "Change"),
    table("Settings that differ", settings(jobs)),
    table("Time of each stage", stages(jobs)),
    el("div", { class: "part-charts" }, jobs.map((job, index) => job.result && map(job, NAMES[index]))));
}

function card(job, index) {
  return el("section", { class: "card" },
    el("h2", {}, el("span", { class: "side" }, NAMES[index]), " ", el("a", { href: `#/jobs/${job.id}` }, shortName(job.model)), " ", badge(job)),
    el("p", { class: "muted small" }, `Created ${clock(job.created_at)}`));
}

/** Rows of [name, value of A, value of B, change]; a value that a job does not have is null. */
function results(jobs) {
  const finals = jobs.map((job) => job.result?.measurements.find((row) => row.variant === "final"));
  const row = (name, read, show, compared = change) => {
    const values = finals.map((final, index) => (final ? read(final, jobs[index]) ?? null : null));
    if (values.every((value) => value === null)) return null;
    const both = values.every((value) => value !== null);
    return [name, ...values.map((value) => (value === null ? null : show(value))), both ? compared(values[1], values[0]) : ""];
  };
  const points = (now, before) => (Math.abs(now - before) < 0.0005 ? "±0 points" : `${now < before ? "−" : "+"}${decimal(100 * Math.abs(now - before), 1)} points`);
  return [
    row("Memory budget", (_, job) => job.memory_budget, bytes),
    row("Memory when loaded", (final) => final.bytes, bytes),
    row("On disk", (final) => final.file_bytes, bytes),
    row("Perplexity, held-out", (final) => final.perplexity, (value) => decimal(value)),
    row("KL to dense", (final) => final.divergence, (value) => decimal(value, 3)),
    row("Same top-1", (final) => final.top1_agreement, (value) => `${decimal(100 * value, 1)} %`, points),
    row("Accuracy", (final) => final.accuracy, (value) => `${decimal(100 * value, 1)} %`, points),
    row("Tokens per second", (final) => final.tokens_per_second, (value) => decimal(value, 1)),
    row("Parameters", (final) => final.parameters, (value) => value.toLocaleString("en")),
    row("Pruned", (_, job) => job.result.pruning?.removed_fraction, (value) => `${decimal(100 * value, 1)} %`, points),
  ].filter(Boolean);
}

function settings(jobs) {
  const flat = jobs.map((job) => flattened({ ...job.config, labels: job.labels, priority: job.priority }));
  const names = [...new Set(flat.flatMap((one) => [...one.keys()]))];
  const show = (name, value) => (value === undefined || value === "null" ? null : name === "memory_budget" ? bytes(value) : value.replace(/^"(.*)"$/, "$1"));
  return names.filter((name) => flat[0].get(name) !== flat[1].get(name))
    .map((name) => [name, ...flat.map((one) => show(name, one.get(name)))]);
}

function flattened(values, path = "", found = new Map()) {
  for (const [name, value] of Object.entries(values)) {
    if (value && typeof value === "object" && !Array.isArray(value)) flattened(value, `${path}${name}.`, found);
    else found.set(path + name, JSON.stringify(value));
  }
  return found;
}

function stages(jobs) {
  const seconds = (stage) => (stage.seconds === null ? null : `${duration(stage.seconds)}${stage.reused_from ? ", reused" : ""}`);
  const rows = jobs[0].stages.map((stage, index) => [stage.name, seconds(stage), seconds(jobs[1].stages[index])]);
  return rows.filter(([, a, b]) => a ?? b);
}

function table(title, rows, last) {
  const heads = ["", ...NAMES, ...(last ? [last] : [])];
  return el("section", { class: "card" },
    el("h2", {}, title),
    rows.length === 0
      ? el("p", { class: "muted" }, last ? "Neither job has a result yet." : "Nothing.")
      : el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, el("table", { class: "sides" },
          el("thead", {}, el("tr", {}, heads.map((head) => (head ? el("th", { scope: "col" }, head) : el("td"))))),
          el("tbody", {}, rows.map(([name, ...values]) => el("tr", {}, el("th", { scope: "row" }, name), values.map((value) => el("td", {}, value ?? "–"))))))));
}

function map(job, name) {
  const { groups, precisions, stored, widths } = job.result;
  return heatMap(groups, stored?.length > 0 ? stored.map((names) => names.join(" + ")) : precisions, `: ${name}`, widths);
}
