// The seven stages of a job, with how long each took or how far it is.

import { el } from "./dom.js";
import { duration, percent } from "./format.js";

const SAYS = {
  prune: "Remove channels and heads that matter least", score: "Measure how sensitive each part is to rounding",
  allocate: "Search the precision of each part", quantize: "Round the weights; initialise adapters, if any",
  finetune: "Train to recover quality", export: "Write the checkpoints", evaluate: "Read them back, and measure before and after",
};

/** A list of stages; progress is {stage: {fraction}} for those at work. */
export function stageTimeline(job, progress) {
  return el("ol", { class: "stages" }, job.stages.map((stage) => {
    const running = stage.status === "running";
    const expected = stage.status === "pending" && stage.expected_seconds !== null ? `about ${duration(stage.expected_seconds)}` : stage.status;
    const state = running ? percent(progress[stage.name]?.fraction ?? 0) : stage.reused_from ? "reused" : stage.seconds !== null ? duration(stage.seconds) : expected;
    const says = stage.reused_from ? `${SAYS[stage.name]}: taken from ${stage.reused_from}, which took ${duration(stage.seconds)}` : SAYS[stage.name];
    return el("li", { class: stage.status, title: says, "aria-current": running && "step" },
      el("span", { class: "mark", "aria-hidden": "true" }, { finished: "✓", failed: "!", cancelled: "×" }[stage.status] ?? ""),
      el("span", { class: "stage-name" }, stage.name),
      el("span", { class: "muted small" }, state));
  }));
}
