// Between the fields of the form and the body of a request, in both directions.

import { SETTINGS } from "./settings_fields.js";

/** What the fields say, dataset apart. Settings without a field come from the one for others, under what fields say. */
export function bodyOf(form) {
  const body = otherSettings(form) ?? {};
  const put = (path, value) => {
    const [group, name] = path.split(".");
    if (name) body[group] = { ...body[group], [name]: value };
    else body[group] = value;
  };
  for (const path of ["model", "memory_budget"]) {
    const text = form.elements[path].value.trim();
    if (text) put(path, text);
  }
  for (const [path, , , { options, type }] of SETTINGS) {
    const text = form.elements[path].value.trim();
    if (text) put(path, options || type === "text" ? text : Number(text));
  }
  const labels = labelsOf(form.elements.labels.value);
  if (Object.keys(labels).length) put("labels", { ...body.labels, ...labels });
  return body;
}

/** What is wrong with the fields before any request. */
export function faultsOf(form, dataset) {
  const empty = (path) => form.elements[path].value.trim() === "";
  const faults = [];
  const add = (field, message) => faults.push({ field, message });
  if (empty("model")) add("model", "Name the model to compress.");
  if (dataset) add("dataset", dataset);
  if (empty("memory_budget") && empty("fit.memory")) add("memory_budget", "Give the bytes of its weights, such as 130MB; or, under “Fit a device”, the memory of the device.");
  if (!empty("memory_budget") && !empty("fit.memory")) add("memory_budget", "Give a memory budget or a device to fit, not both.");
  for (const [path] of SETTINGS) if (form.elements[path].validity.badInput) add(path, "Not a number.");
  if (otherSettings(form) === null) add("other", "Not a JSON object. Write it as {\"finetune\": {\"batch_size\": 4}}.");
  const bad = form.elements.labels.value.split(",").map((one) => one.trim()).find((one) => one && one.indexOf(":") < 1);
  if (bad) add("labels", `“${bad}” has no value. Write key:value.`);
  return faults;
}

/** Fill the fields from the body of a request; settings without a field go where others are written. */
export function fillIn(form, dataset, request) {
  const rest = structuredClone(request);
  const take = (path) => {
    const [group, name] = path.split(".");
    const holder = name ? rest[group] : rest;
    const value = holder?.[name ?? group];
    if (holder) delete holder[name ?? group];
    if (name && holder && Object.keys(holder).length === 0) delete rest[group];
    return value;
  };
  const asText = (value) => (value === undefined || value === null ? "" : String(value));
  form.elements.model.value = asText(take("model"));
  dataset.use(asText(take("dataset")));
  form.elements.memory_budget.value = asSize(take("memory_budget"));
  for (const [path] of SETTINGS) form.elements[path].value = path === "fit.memory" ? asSize(take(path)) : asText(take(path));
  if (!Object.values(rest.labels ?? {}).some((value) => value.includes(","))) {
    form.elements.labels.value = Object.entries(take("labels") ?? {}).map(([key, value]) => `${key}:${value}`).join(", ");
  }
  form.elements.other.value = Object.keys(rest).length ? JSON.stringify(rest, null, 1) : "";
  form.querySelectorAll("details").forEach((part) => (part.open = [...part.querySelectorAll("input, select, textarea")].some((one) => one.value !== "")));
}

/** 130000000 as "130MB": the largest unit that says it exactly. */
function asSize(value) {
  if (value === undefined || value === null) return "";
  const unit = [["GB", 1e9], ["GiB", 2 ** 30], ["MB", 1e6], ["MiB", 2 ** 20], ["kB", 1e3]].find(([, size]) => value % size === 0);
  return unit ? `${value / unit[1]}${unit[0]}` : String(value);
}

/** The object in the field for other settings, {} if that is empty, null if it is none. */
function otherSettings(form) {
  const text = form.elements.other.value.trim();
  try {
    const value = JSON.parse(text || "{}");
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function labelsOf(text) {
  const pairs = text.split(",").map((one) => one.trim()).filter(Boolean).map((one) => [one.slice(0, one.indexOf(":")).trim(), one.slice(one.indexOf(":") + 1).trim()]);
  return Object.fromEntries(pairs);
}
