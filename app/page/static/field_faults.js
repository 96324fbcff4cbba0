// What is wrong with a form, at the fields that it is wrong with.

/** Mark every fault's field with its message, and focus the first; what no field has goes into the element problem. */
export function showFaults(form, problem, faults) {
  const general = [];
  for (const { field, message } of faults) {
    const target = fieldOf(form, field);
    if (!target) general.push(field ? `${field}: ${message}` : message);
    else mark(target, target.dataset.field === field ? message : `${field}: ${message}`);
  }
  problem.textContent = general.join(" ");
  problem.hidden = general.length === 0;
  [...form.querySelectorAll("[aria-invalid]:not([type=radio])")].find((input) => input.offsetParent !== null)?.focus();
}

/** Take all marks away. */
export function clearFaults(form, problem) {
  problem.hidden = true;
  form.querySelectorAll(".field-error").forEach((node) => (node.hidden = true));
  form.querySelectorAll("[aria-invalid]").forEach((node) => node.removeAttribute("aria-invalid"));
}

/** The field of a dotted path, of the group it is in, or the one that takes all other settings, if something is in it. */
function fieldOf(form, path) {
  const all = [...form.querySelectorAll("[data-field]")];
  const named = all.find((node) => node.dataset.field === path) ?? all.find((node) => path?.startsWith(`${node.dataset.field}.`));
  const other = path && all.find((node) => node.dataset.field === "other");
  return named ?? (other?.querySelector("textarea").value.trim() ? other : null);
}

function mark(target, text) {
  target.closest("details")?.setAttribute("open", "");
  const message = target.querySelector(".field-error");
  message.textContent = message.hidden ? text : `${message.textContent} ${text}`;
  message.hidden = false;
  target.querySelectorAll("input, select, textarea").forEach((input) => input.setAttribute("aria-invalid", "true"));
}
