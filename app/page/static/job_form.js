// The form that estimates and submits a run. Errors of the service go to the field that they name.

import { getJson, postJson, uploadDataset } from "./api.js";
import { el, notify, replace } from "./dom.js";
import { estimateView } from "./estimate.js";

const NUMBER = { type: "number", step: "any", inputmode: "decimal" };

/** Engines that a result can be for; each brings the formats that weights may have. */
const TARGET = ["target", "Target", "Engine that will run the result; it decides the precisions. Default: compressed-tensors, or bitsandbytes with a preset of the paper", {
  options: ["gguf", "compressed-tensors", "bitsandbytes"],
  says: {
    gguf: "llama.cpp and Ollama: one file, on a CPU or a GPU",
    "compressed-tensors": "vLLM, SGLang and transformers",
    bitsandbytes: "transformers with PEFT and this package; the paper's methods",
  },
}];

/** What the engine computes on. */
const RUNS_ON = ["runs_on", "Runs on", "For compressed-tensors the precisions are those that vLLM has kernels for there. Default gpu", {
  options: ["gpu", "gpu+humming", "cpu"],
  says: { gpu: "any that the engine knows", "gpu+humming": "NVIDIA from sm75 with the package Humming, for vLLM", cpu: "in vLLM 4 bits need AVX-512" },
}];

/** Settings under "More settings": path in the request, label, hint, attributes of the input or its options. */
const MORE = [
  ["preset", "Preset", "starting values; anything set below overrides them; default best",
    { options: ["llm-pruner", "qpruner1", "qpruner2", "qpruner3", "best"] }],
  ["prune.ratio", "Prune ratio", "0 to 0.9; empty finds the smallest that fits", { ...NUMBER, min: 0, max: 0.9 }],
  ["prune.criterion", "Prune criterion", "how a unit's importance is measured",
    { options: ["taylor_first", "taylor_second", "taylor_mixed", "taylor_vector", "magnitude", "wanda", "flap", "random"] }],
  ["prune.layout", "Prune layout", "where it is removed; stock needs no code to load",
    { options: ["same_ratio", "global", "stock", "depth"] }],
  ["allocate.trials", "Search trials", "default 1: the exact knapsack alone", { ...NUMBER, step: 1, min: 1 }],
  ["allocate.granularity", "Granularity", "unit that gets its own precision; default module", { options: ["layer", "block", "module"] }],
  ["finetune.steps", "Recovery steps", "default 200; 0 skips training", { ...NUMBER, step: 1, min: 0 }],
  ["finetune.loss", "Recovery loss", "what is learned; auto distils where memory allows",
    { options: ["auto", "distillation", "cross_entropy"] }],
  ["quantize.lora_rank", "Adapter rank", "default 8", { ...NUMBER, step: 1, min: 1 }],
  ["sequence_length", "Sequence length", "tokens; default 256", { ...NUMBER, step: 1, min: 16 }],
  ["seed", "Seed", "default 0", { ...NUMBER, step: 1, min: 0 }],
];

/** What the finished model is to run in, in place of a memory budget. */
const FIT = [
  ["fit.memory", "Memory of the device", "such as 24GB; the bytes of weights follow", { type: "text", placeholder: "24GB" }],
  ["fit.context", "Context", "tokens of the longest sequence; default 4096", { ...NUMBER, step: 1, min: 1 }],
  ["fit.sequences", "Sequences", "served at the same time; default 1", { ...NUMBER, step: 1, min: 1 }],
  ["fit.cache_type", "Type of the KV cache", "default f16", { options: ["f16", "bf16", "q8_0", "fp8"] }],
];

function field(path, label, hint, { options, says, ...attributes }) {
  const id = `field-${path.replace(".", "-")}`;
  const named = { id, name: path, "aria-describedby": `${id}-hint ${id}-error` };
  return el("div", { class: "field", "data-field": path },
    el("label", { for: id }, label),
    options
      ? el("select", named, el("option", { value: "" }, "default"), options.map((value) => el("option", { value }, says ? `${value} (${says[value]})` : value)))
      : el("input", { ...named, autocomplete: "off", spellcheck: "false", ...attributes }),
    el("p", { class: "hint", id: `${id}-hint` }, hint),
    el("p", { class: "field-error", id: `${id}-error`, hidden: true }));
}

/** The whole form; it goes to the new job's page when one was made. */
export function jobForm(signal) {
  const dataset = datasetField(signal);
  const problem = el("p", { class: "alert", role: "alert", hidden: true });
  const result = el("div", { id: "estimate", "aria-live": "polite" });
  const estimate = el("button", { type: "submit", class: "quiet", value: "estimate" }, "Estimate");
  const submit = el("button", { type: "submit", class: "primary", value: "submit" }, "Compress");
  const form = el("form", { id: "job-form", novalidate: true },
    field("model", "Model", "A local directory, a hub id (org/name@revision), or the demo model", { type: "text", list: "models", required: true, placeholder: "org/name@revision" }),
    el("datalist", { id: "models" }, el("option", { value: "demo:smollm2-135m-instruct" })),
    dataset.node,
    field("memory_budget", "Memory budget", "Bytes of the loaded model's weights, such as 130MB or 6GiB; or give a device below", { type: "text", placeholder: "130MB" }),
    field(...TARGET),
    field(...RUNS_ON),
    el("details", {}, el("summary", {}, "Fit a device"), el("div", { class: "grid" }, FIT.map((one) => field(...one)))),
    el("details", {}, el("summary", {}, "More settings"), el("div", { class: "grid" }, MORE.map((one) => field(...one)))),
    problem,
    el("div", { class: "actions" }, estimate, submit),
    result);
  let idempotencyKey = crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.random()}`;
  form.addEventListener("input", () => (idempotencyKey = crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.random()}`));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const submitting = event.submitter !== estimate;
    clearFaults(form, problem);
    setBusy(form, submitting ? submit : estimate, true);
    try {
      const body = await requestBody(form, dataset);
      if (submitting) {
        const job = await postJson("/jobs", body, { "Idempotency-Key": idempotencyKey });
        location.hash = `#/jobs/${job.id}`;
      } else {
        const useBudget = (path, count) => ((form.elements[path].value = String(count)), estimate.click());
        replace(result, estimateView(await postJson("/jobs/estimate", body), useBudget));
      }
    } catch (error) {
      replace(result);
      showFaults(form, problem, error);
    } finally {
      setBusy(form, submitting ? submit : estimate, false);
    }
  });
  return form;
}

async function requestBody(form, dataset) {
  const body = { model: form.elements.model.value.trim(), dataset: await dataset.value() };
  const budget = form.elements.memory_budget.value.trim();
  for (const [path, , , { options, type }] of [TARGET, RUNS_ON, ...FIT, ...MORE]) {
    const text = form.elements[path].value.trim();
    if (text === "") continue;
    const [group, name] = path.split(".");
    const value = options || type === "text" ? text : Number(text);
    if (name) (body[group] ??= {})[name] = value;
    else body[group] = value;
  }
  if (budget !== "" || !body.fit) body.memory_budget = budget; // an empty one is refused with what to give
  return body;
}

function datasetField(signal) {
  const file = el("input", { type: "file", id: "dataset-file", accept: ".jsonl,.ndjson,.json,.csv,.tsv,.txt,.gz,.zst,.parquet", "aria-describedby": "field-dataset-error" });
  const text = el("input", { type: "text", id: "field-dataset", name: "dataset", list: "datasets", autocomplete: "off", spellcheck: "false", placeholder: "ds_… or org/name@revision or a path", "aria-describedby": "field-dataset-error" });
  const uploads = el("datalist", { id: "datasets" });
  const radio = (value, label, checked) => el("label", { class: "choice" },
    el("input", { type: "radio", name: "dataset-kind", value, checked }), el("span", {}, label));
  const box = el("div", { class: "upload" }, file);
  const node = el("fieldset", { class: "field", "data-field": "dataset" },
    el("legend", {}, "Dataset"),
    el("div", { class: "choices" }, radio("upload", "Upload a file", true), radio("name", "Upload id, hub id or path", false)),
    el("label", { class: "visually-hidden", for: "dataset-file" }, "File to upload"), box,
    el("label", { class: "visually-hidden", for: "field-dataset" }, "Upload id, hub id or path"), text, uploads,
    el("p", { class: "hint" }, "Text (.txt), or text, instructions, conversations or choices as .jsonl, .json, .csv or .parquet; .gz and .zst too"),
    el("p", { class: "field-error", id: "field-dataset-error", hidden: true }));
  const uploading = () => node.querySelector("input[type=radio]:checked").value === "upload";
  const show = () => ((box.hidden = !uploading()), (text.hidden = uploading()));
  node.addEventListener("change", show);
  show();
  getJson("/datasets", signal)
    .then((page) => replace(uploads, page.datasets.map((one) => el("option", { value: one.id }, one.filename))))
    .catch(() => {}); // only a help for typing
  const sent = { file: null, id: null };
  const value = async () => {
    if (!uploading()) return text.value.trim();
    const chosen = file.files[0];
    if (!chosen) throw Object.assign(new Error(), { faults: [{ field: "dataset", message: "Choose a file to upload." }] });
    if (sent.file !== chosen) {
      notify(`Uploading ${chosen.name} …`);
      try {
        sent.id = (await uploadDataset(chosen)).id;
        sent.file = chosen;
      } catch (error) {
        throw error.status === 401 ? error : Object.assign(error, { problem: { ...error.problem, field: "dataset", errors: [] } });
      } finally {
        notify("");
      }
    }
    return sent.id;
  };
  return { node, value };
}

function showFaults(form, problem, error) {
  const general = [];
  for (const fault of error.faults ?? [{ field: null, message: error.message }]) {
    const target = [...form.querySelectorAll("[data-field]")].find((node) => node.dataset.field === fault.field);
    if (!target) general.push(fault.field ? `${fault.field}: ${fault.message}` : fault.message);
    else {
      target.closest("details")?.setAttribute("open", "");
      const message = target.querySelector(".field-error");
      message.textContent = fault.message;
      message.hidden = false;
      target.querySelectorAll("input, select").forEach((input) => input.setAttribute("aria-invalid", "true"));
    }
  }
  problem.textContent = general.join(" ");
  problem.hidden = general.length === 0;
  form.querySelector("[aria-invalid]:not([type=radio])")?.focus();
}

function clearFaults(form, problem) {
  problem.hidden = true;
  form.querySelectorAll(".field-error").forEach((node) => (node.hidden = true));
  form.querySelectorAll("[aria-invalid]").forEach((node) => node.removeAttribute("aria-invalid"));
}

function setBusy(form, button, busy) {
  form.querySelectorAll("button").forEach((one) => (one.disabled = busy));
  button.classList.toggle("busy", busy);
}
