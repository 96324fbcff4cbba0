// What a run would come to, before it is submitted.

import { el } from "./dom.js";
import { bytes, change, duration, percent } from "./format.js";
import { inWords } from "./words.js";

const PARTS = [
  ["layers", "Layers"], ["embeddings", "Embeddings"], ["quantization_constants", "Quantization constants"],
  ["norms", "Norms"], ["adapters", "Adapters"],
];

/** A card of feasibility, bytes by part and expected time; useBudget(path, bytes) takes the smallest feasible budget. */
export function estimateView(estimate, useBudget) {
  const stages = Object.values(estimate.stage_seconds);
  const seconds = stages.reduce((sum, one) => sum + one, 0);
  return el("section", { class: `estimate ${estimate.feasible ? "yes" : "no"}` },
    el("div", { class: "row between" },
      el("h3", {}, estimate.feasible ? "Fits the budget" : "Does not fit the budget"),
      el("span", { class: "muted small" }, stages.length ? `about ${duration(seconds)}` : "time not known yet")),
    estimate.feasible ? fits(estimate) : tooSmall(estimate, useBudget),
    estimate.notes.map((note) => el("p", { class: "muted small" }, inWords(note))));
}

function tooSmall(estimate, useBudget) {
  const { device } = estimate;
  const smallest = device ? estimate.smallest_feasible_memory : estimate.smallest_feasible_bytes;
  const path = device ? "fit.memory" : "memory_budget";
  return el("div", {},
    el("p", {}, `${bytes(device ? device.memory : estimate.memory_budget)} cannot be met; the smallest ${device ? "memory" : "budget"} that can is `, el("strong", {}, bytes(smallest)), "."),
    deviceParts(device),
    el("button", { type: "button", class: "quiet small", onclick: () => useBudget(path, smallest) }, `Use that ${device ? "memory" : "budget"}`));
}

/** What the memory of a device goes to, a line per part; nothing where the run gives bytes of weights. */
function deviceParts(device) {
  if (!device) return null;
  const rows = [
    ["Weights", device.weights], [`KV cache, ${device.sequences} × ${device.context} tokens`, device.kv_cache],
    ["Activations", device.activations], ["Engine", device.engine], ["Memory of the device", device.memory],
  ];
  return el("dl", { class: "parts device" },
    rows.map(([label, size]) => el("div", {}, el("dt", {}, label), el("dd", {}, bytes(size)))));
}

function fits(estimate) {
  const total = estimate.predicted_total_bytes;
  const bar = el("div", { class: "stack", role: "img", "aria-label": `Predicted ${bytes(total)} of ${bytes(estimate.memory_budget)}` });
  const legend = el("dl", { class: "parts" });
  for (const [name, label] of PARTS) {
    const size = estimate.predicted_bytes[name];
    const piece = el("span", { class: `part ${name}`, title: `${label}: ${bytes(size)}` });
    piece.style.flexGrow = String(size);
    bar.append(piece);
    legend.append(el("div", {}, el("dt", {}, el("i", { class: `dot ${name}` }), label), el("dd", {}, bytes(size))));
  }
  return el("div", {},
    el("p", {}, el("strong", {}, bytes(total)), ` predicted, ${change(total, estimate.dense_bytes)} against ${bytes(estimate.dense_bytes)}; prunes ${percent(estimate.prune_ratio)} of the blocks.`),
    bar, legend, deviceParts(estimate.device));
}
