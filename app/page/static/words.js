// What the service says, for someone at a page: remedies that name requests make way for what the page has.

const REMEDIES = {
  dataset_in_use: "Wait until that job has ended, or cancel it.",
  model_in_use: "Wait until that job has ended, or cancel it.",
  job_not_found: "It may have been deleted.",
  job_finished: "",
  job_not_finished: "Cancel it first.",
  storage_full: "Delete jobs or datasets; “Manage” shows what uses the space.",
  too_many_webhooks: "Delete one of them first.",
  too_many_test_messages: "See the reason under “Deliveries”.",
  unauthenticated: "",
  webhook_not_found: "It may have been deleted.",
  delivery_not_found: "It may have been deleted.",
  key_not_found: "",
  invalid_cursor: "Go back to the newest jobs.",
  too_many_streams: "Close other tabs that follow jobs.",
};
/** Sentences of the service, and what the page says in their place. */
const INSTEAD = [
  ["Upload one with POST /datasets.", "Choose a file to upload, or the id of one that is uploaded already."],
  ["Upload one with POST /models.", "Upload it by “qpruner models upload”."],
];
const LABELS = {
  memory_budget: "memory budget", runs_on: "“Runs on”", sequence_length: "sequence length",
  prune_ratio: "prune ratio", predicted_bytes: "predicted bytes", "fit.memory": "memory of the device",
};
/** Sentences that only help whoever sends requests or runs the service. */
const FOR_PROGRAMS = /\b(?:GET|POST|PUT|PATCH|DELETE) (?:\/|it\b|…)|\/docs\b|\/guide\b|Content-Type|Authorization|Idempotency-Key|memory_budget for bytes/;

/** Let messages call a setting by the label of its field. */
export function nameSettings(labels) {
  Object.assign(LABELS, labels);
}

/** Text of the service without sentences for programs, and with settings called by their labels. */
export function inWords(text) {
  const said = INSTEAD.reduce((rest, [sentence, other]) => rest.replace(sentence, other), text ?? "");
  return said.split(/(?<=[.!?]) +(?=[A-Z“`])/).filter((sentence) => !FOR_PROGRAMS.test(sentence)).join(" ")
    .replace(/ \([a-z_0-9]+\.[a-z_0-9.]+(?:, [a-z_0-9]+\.[a-z_0-9.]+)*\)/g, "")
    .replace(/`?\b([a-z0-9]+(?:[._][a-z0-9]+)+)\b`?/g, (whole, name) => LABELS[name] ?? whole);
}

/** What to do about a problem or the error of a job. */
export function remedyOf({ code, remedy }) {
  return REMEDIES[code] ?? inWords(remedy);
}
