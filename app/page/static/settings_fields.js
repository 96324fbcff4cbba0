// The settings that the form has a field for, and how a field is made.

import { el } from "./dom.js";
import { nameSettings } from "./words.js";

const NUMBER = { type: "number", step: "any", inputmode: "decimal" };
const WHOLE = { ...NUMBER, step: 1, inputmode: "numeric" };

/** Engines that a result can be for; each brings the formats that weights may have. */
export const TARGET = ["target", "Target", "Engine that will run the result; it decides the precisions. Default: compressed-tensors, or bitsandbytes with a preset of the paper", {
  options: ["gguf", "compressed-tensors", "bitsandbytes"],
  says: {
    gguf: "llama.cpp and Ollama: one file, on a CPU or a GPU",
    "compressed-tensors": "vLLM, SGLang and transformers",
    bitsandbytes: "transformers with PEFT and this package; the paper's methods",
  },
}];

/** What the engine computes on. */
export const RUNS_ON = ["runs_on", "Runs on", "For compressed-tensors the precisions are those that vLLM has kernels for there. Default gpu", {
  options: ["gpu", "gpu+humming", "cpu"],
  says: { gpu: "any that the engine knows", "gpu+humming": "NVIDIA from sm75 with the package Humming, for vLLM", cpu: "in vLLM 4 bits need AVX-512" },
}];

/** Settings under "More settings": path in the request, label, hint, attributes of the input or its options. */
export const MORE = [
  ["preset", "Preset", "starting values; anything set below overrides them; default best",
    { options: ["llm-pruner", "qpruner1", "qpruner2", "qpruner3", "best"] }],
  ["prune.ratio", "Prune ratio", "0 to 0.9; empty finds the smallest that fits", { ...NUMBER, min: 0, max: 0.9 }],
  ["prune.criterion", "Prune criterion", "how a unit's importance is measured",
    { options: ["taylor_first", "taylor_second", "taylor_mixed", "taylor_vector", "magnitude", "wanda", "flap", "random"] }],
  ["prune.layout", "Prune layout", "how removal is spread across layers; stock loads without extra code",
    { options: ["same_ratio", "global", "stock", "depth"] }],
  ["allocate.trials", "Search trials", "default 1: the exact knapsack alone", { ...WHOLE, min: 1 }],
  ["allocate.granularity", "Granularity", "unit that gets its own precision; default module", { options: ["layer", "block", "module"] }],
  ["finetune.steps", "Recovery steps", "default 200; 0 skips training", { ...WHOLE, min: 0 }],
  ["finetune.loss", "Recovery loss", "training loss; auto uses distillation if memory allows",
    { options: ["auto", "distillation", "cross_entropy"] }],
  ["quantize.lora_rank", "Adapter rank", "default 8", { ...WHOLE, min: 1 }],
  ["sequence_length", "Sequence length", "tokens; default 256", { ...WHOLE, min: 16 }],
  ["seed", "Seed", "default 0", { ...WHOLE, min: 0 }],
  ["priority", "Priority", "among your waiting jobs, −100 to 100; default 0", { ...WHOLE, min: -100, max: 100, inputmode: "text" }],
  ["deadline", "Deadline", "time that the job may take, such as 12h", { type: "text", placeholder: "12h" }],
];

/** What the finished model is to run in, in place of a memory budget. */
export const FIT = [
  ["fit.memory", "Memory of the device", "such as 24GB; the bytes of weights follow", { type: "text", placeholder: "24GB" }],
  ["fit.context", "Context", "tokens of the longest sequence; default 4096", { ...WHOLE, min: 1 }],
  ["fit.sequences", "Sequences", "served at the same time; default 1", { ...WHOLE, min: 1 }],
  ["fit.cache_type", "Type of the KV cache", "default f16", { options: ["f16", "bf16", "q8_0", "fp8"] }],
];

/** Every setting with a field of this shape. */
export const SETTINGS = [TARGET, RUNS_ON, ...FIT, ...MORE];

nameSettings(Object.fromEntries(SETTINGS.map(([path, label]) => [path, `“${label}”`])));

/** An input or a select with its label, a hint, and room for what is wrong with it. */
export function field(path, label, hint, { options, says, rows, ...attributes }) {
  const id = `field-${path.replace(".", "-")}`;
  const named = { id, name: path, "aria-describedby": `${id}-hint ${id}-error` };
  const plain = { ...named, autocomplete: "off", spellcheck: "false", ...attributes };
  return el("div", { class: "field", "data-field": path },
    el("label", { for: id }, label),
    options
      ? el("select", named, el("option", { value: "" }, "default"), options.map((value) => el("option", { value }, says ? `${value} (${says[value]})` : value)))
      : el(rows ? "textarea" : "input", { rows, ...plain }),
    el("p", { class: "hint", id: `${id}-hint` }, hint),
    el("p", { class: "field-error", id: `${id}-error`, hidden: true }));
}
