// What came out of a job: the headline, the table of before and after, and the files.

import { apiKey, getJson } from "./api.js";
import { copyButton, el, notify } from "./dom.js";
import { bytes, change, count, decimal } from "./format.js";

/** Three large figures: bytes, perplexity and speed, before and after. */
export function headline(report) {
  const [dense, final] = ["dense", "final"].map((name) => report.measurements.find((row) => row.variant === name));
  if (!dense || !final) return null;
  const tile = (label, now, before, delta) => el("div", { class: "tile card" },
    el("span", { class: "muted small" }, label), el("strong", {}, now),
    el("span", { class: "muted small" }, `${delta} from ${before}`));
  return el("section", { class: "tiles", "aria-label": "Result" },
    tile("Memory when loaded", bytes(final.bytes), bytes(dense.bytes), change(final.bytes, dense.bytes)),
    tile("Perplexity, held-out", decimal(final.perplexity), decimal(dense.perplexity), change(final.perplexity, dense.perplexity)),
    tile(final.speed_engine ? `Tokens per second, ${final.speed_engine}` : "Tokens per second", decimal(final.tokens_per_second, 1), decimal(dense.tokens_per_second, 1), change(final.tokens_per_second, dense.tokens_per_second)));
}

/** Every variant measured, with its change against the dense model. */
export function measurementsCard(report) {
  const rows = report.measurements;
  const dense = rows.find((row) => row.variant === "dense");
  const accuracy = rows.some((row) => row.accuracy !== null);
  const against = (row, name) => dense && row !== dense && el("span", { class: "muted small delta" }, change(row[name], dense[name]));
  const engines = rows.some((row) => row.speed_engine && row.speed_engine !== "torch");
  const prefill = rows.find((row) => row.prefill_tokens_per_second);
  const compared = rows.find((row) => row.compared_tokens);
  const written = rows.some((row) => row.file_bytes);
  const heads = ["", "Bytes", written && "On disk", "Perplexity", compared && "KL to dense", compared && "Same top-1", accuracy && "Accuracy", "Tokens/s", engines && "In", "Parameters"].filter((head) => typeof head === "string");
  return el("section", { class: "card" },
    el("h2", {}, "Before and after"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of before and after" }, el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head) => (head ? el("th", { scope: "col" }, head) : el("td"))))),
      el("tbody", {}, rows.map((row) => el("tr", { class: row.variant },
        el("th", { scope: "row" }, row.label),
        el("td", {}, bytes(row.bytes), against(row, "bytes")),
        written && el("td", {}, row.file_bytes ? bytes(row.file_bytes) : "–"),
        el("td", {}, decimal(row.perplexity), against(row, "perplexity")),
        compared && el("td", {}, row.divergence === null ? "–" : small(row.divergence)),
        compared && el("td", {}, row.top1_agreement === null ? "–" : `${decimal(100 * row.top1_agreement, 1)} %`),
        accuracy && el("td", {}, row.accuracy === null ? "–" : `${decimal(100 * row.accuracy, 1)} ± ${decimal(100 * (row.accuracy_stderr ?? 0), 1)} %`),
        el("td", {}, decimal(row.tokens_per_second, 1), against(row, "tokens_per_second")),
        engines && el("td", {}, row.speed_engine ?? "–"),
        el("td", {}, count(row.parameters))))))),
    el("p", { class: "muted small" }, `Budget ${bytes(report.memory_budget)}; ${bytes(report.predicted_bytes)} was predicted. Every figure of the table was measured.`),
    compared && el("p", { class: "muted small" }, `KL divergence from the dense model (nats per token) and the share of tokens with the same most likely next one are of the first ${count(compared.compared_tokens)} held-out tokens.`),
    prefill && el("p", { class: "muted small" }, `${prefill.speed_engine} reads a prompt at ${decimal(prefill.prefill_tokens_per_second, 1)} tokens per second.`),
    report.pruning && el("p", { class: "muted small" }, pruningLine(report.pruning)),
    report.compute && el("p", { class: "muted small" }, computeLine(report.compute)),
    report.warnings.map((text) => el("p", { class: "alert warn" }, text)));
}

function small(value) {
  return value < 0.01 ? value.toPrecision(2) : decimal(value, 3);
}

function computeLine({ processor, threads, products }) {
  return `Computed on ${processor} with ${threads} CPU ${threads === 1 ? "thread" : "threads"}, products in ${products}.`;
}

function pruningLine(pruning) {
  if (pruning.ratio === 0) return `Nothing was pruned: quantization alone meets the budget. ${pruning.ratio_reason ?? ""}`;
  const layers = pruning.removed_layers.length;
  return `Pruned ${decimal(100 * pruning.removed_fraction, 1)} % of the layers' parameters${layers ? `, ${layers} whole ${layers === 1 ? "layer" : "layers"}` : ""} (${pruning.criterion}, ${pruning.layout}): ` +
    `${count(pruning.parameters_before)} to ${count(pruning.parameters_after)} parameters. ${pruning.ratio_reason ?? ""}`;
}

/** How the file to take is run, all files with size, SHA-256 and download, and how to get one from a shell. */
export function artifactsCard(job, artifacts) {
  const [first] = artifacts;
  const key = apiKey.get() ? ' -H "Authorization: Bearer $QPRUNER_API_KEY"' : "";
  const command = `curl -L -C - -o ${first.name}${key} ${location.origin}/jobs/${job.id}/artifacts/${first.name}`;
  const fetched = first.unpack ? `${command}\n${first.unpack}` : command;
  return el("section", { class: "card" },
    el("h2", {}, "Files"),
    el("p", {}, "Take ", el("strong", {}, first.name), `: ${first.title}.`),
    el("div", { class: "command" }, el("pre", {}, fetched), copyButton(fetched, "Copy curl")),
    first.snippets.map((one) => [
      el("p", { class: "muted small" }, `With ${one.tool}:`),
      el("div", { class: "command" }, el("pre", {}, one.text), copyButton(one.text, `Copy ${one.tool}`))]),
    el("ul", { class: "files" }, artifacts.map((one) => el("li", {},
      el("span", { class: "file-name" }, el("strong", {}, one.name), el("span", { class: "muted small" }, bytes(one.bytes)), one.title && el("span", { class: "muted small" }, one.title)),
      el("span", { class: "sha muted small" }, "SHA-256 ", el("code", { title: one.sha256 }, `${one.sha256.slice(0, 12)}…`), copyButton(one.sha256)),
      el("button", { type: "button", class: "primary small", "aria-label": `Download ${one.name}`, onclick: () => download(job.id, one.name) }, "Download")))));
}

async function download(jobId, name) {
  try { // signed afresh: the address from when the page was opened may have expired
    const { artifacts } = await getJson(`/jobs/${jobId}/artifacts`);
    const link = el("a", { href: artifacts.find((one) => one.name === name).url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
  } catch (error) {
    notify(error.message, "error");
  }
}
