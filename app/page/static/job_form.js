// The form that estimates and submits a run. Errors go to the fields that they name, all of them at once.

import { ApiError, getJson, postJson } from "./api.js";
import { datasetField } from "./dataset_field.js";
import { el, replace } from "./dom.js";
import { estimateView } from "./estimate.js";
import { clearFaults, showFaults } from "./field_faults.js";
import { bodyOf, faultsOf, fillIn } from "./form_values.js";
import { field, FIT, MORE, RUNS_ON, TARGET } from "./settings_fields.js";

const newKey = () => crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.random()}`;

/** The whole form, filled in from the job copyOf if one is named; it goes to the new job's page when one was made. */
export function jobForm(signal, copyOf) {
  const dataset = datasetField(signal);
  const problem = el("p", { class: "alert", role: "alert", hidden: true });
  const result = el("div", { id: "estimate", "aria-live": "polite" });
  const estimate = el("button", { type: "submit", class: "quiet", value: "estimate" }, "Estimate");
  const submit = el("button", { type: "submit", class: "primary", value: "submit" }, "Compress");
  const form = el("form", { id: "job-form", novalidate: true }, fields(dataset, signal), problem,
    el("div", { class: "actions" }, estimate, submit), result);
  if (copyOf) copy(form, dataset, problem, copyOf, signal);
  let idempotencyKey = newKey();
  form.addEventListener("input", () => (idempotencyKey = newKey()));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const submitting = event.submitter !== estimate;
    clearFaults(form, problem);
    setBusy(form, submitting ? submit : estimate, true);
    try {
      const body = await checkedBody(form, dataset, submitting);
      if (submitting) {
        const job = await send(() => postJson("/jobs", body, { "Idempotency-Key": idempotencyKey }), body);
        location.hash = `#/jobs/${job.id}`;
      } else {
        const useBudget = (path, count) => ((form.elements[path].value = String(count)), estimate.click());
        replace(result, estimateView(await send(() => postJson("/jobs/estimate", body), body), useBudget));
      }
    } catch (error) {
      replace(result);
      showFaults(form, problem, error.faults ?? [{ field: null, message: error.message }]);
    } finally {
      setBusy(form, submitting ? submit : estimate, false);
    }
  });
  return form;
}

function fields(dataset, signal) {
  const models = el("datalist", { id: "models" }, el("option", { value: "demo:smollm2-135m-instruct" }));
  getJson("/models?limit=100", signal)
    .then((page) => models.append(...page.models.filter((one) => one.status === "ready").map((one) => el("option", { value: one.id }, one.name))))
    .catch(() => {}); // only a help for typing
  const grid = (all) => el("div", { class: "grid" }, all.map((one) => field(...one)));
  return [
    field("model", "Model", "A local directory, a hub id (org/name@revision), an uploaded model (md_…), or the demo model", { type: "text", list: "models", required: true, placeholder: "org/name@revision" }),
    models,
    dataset.node,
    field("memory_budget", "Memory budget", "Bytes of the loaded model's weights, such as 130MB or 6GiB; or give a device below", { type: "text", placeholder: "130MB" }),
    field(...TARGET),
    field(...RUNS_ON),
    el("details", {}, el("summary", {}, "Fit a device"), grid(FIT)),
    el("details", {}, el("summary", {}, "More settings"), grid(MORE),
      field("labels", "Labels", "key:value, separated by commas; the list of jobs finds them", { type: "text", placeholder: "team:search" }),
      field("other", "Other settings", "Those without a field here, as JSON; the guide lists them", { rows: 3, class: "code" })),
  ];
}

async function copy(form, dataset, problem, id, signal) {
  try {
    fillIn(form, dataset, await getJson(`/jobs/${id}/request`, signal));
  } catch (error) {
    if (!signal.aborted) showFaults(form, problem, [{ field: null, message: error.message }]);
  }
}

/** The body to send, once no field is known to be wrong. Throws {faults}, which has what the service finds as well. */
async function checkedBody(form, dataset, submitting) {
  const faults = faultsOf(form, submitting ? dataset.missing() : "");
  const body = bodyOf(form);
  try {
    const name = await dataset.value();
    if (name) body.dataset = name;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 401) throw error;
    faults.push(...error.faults);
  }
  if (faults.length === 0) return body;
  const known = new Set(faults.map((fault) => fault.field));
  throw { faults: [...faults, ...(await refusals(body)).filter((fault) => !known.has(fault.field))] };
}

/** What a request answers. Throws {faults} with everything that is wrong, where the service refuses how it is written. */
async function send(request, body) {
  try {
    return await request();
  } catch (error) {
    if (error.status !== 422) throw error;
    throw { faults: await allFaults(error, body) };
  }
}

/** What the service has against a run, as faults. */
async function refusals(body) {
  try {
    await postJson("/jobs/estimate", body);
    return [];
  } catch (error) {
    return error instanceof ApiError && error.status === 422 ? allFaults(error, body) : [];
  }
}

/** The faults of a refusal. One for how settings are written came before a look at model and dataset: they follow. */
async function allFaults(error, { model, dataset }) {
  const marked = error.faults.map((fault) => fault.field);
  if (!["invalid_config", "budget_invalid"].includes(error.code) || !model) return error.faults;
  try {
    await postJson("/jobs/estimate", { model, dataset, memory_budget: "1TB" });
    return error.faults;
  } catch (second) {
    const more = second instanceof ApiError ? second.faults : [];
    return [...error.faults, ...more.filter(({ field }) => ["model", "dataset"].includes(field) && !marked.includes(field))];
  }
}

function setBusy(form, button, busy) {
  form.querySelectorAll("button").forEach((one) => (one.disabled = busy));
  button.classList.toggle("busy", busy);
}
