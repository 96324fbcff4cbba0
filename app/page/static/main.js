// The page's one address bar: "#/" is the list and the form, "#/jobs/<id>" one job, "#/compare/<id>/<id>" two of them.

import { apiKey } from "./api.js";
import { showChoice, showComparison } from "./compare.js";
import { el, notify, replace } from "./dom.js";
import { showHome } from "./home.js";
import { showJob } from "./job.js";
import { showManagement } from "./manage.js";

const ID = "([A-Za-z0-9_-]+)";
/** Each shows a view in main for (parts of the path, query, signal); one may return what shows another query. */
const VIEWS = [
  [/^$/, (main, _, query, signal) => showHome(main, query, signal)],
  [new RegExp(`^jobs/${ID}$`), (main, [id], _, signal) => showJob(main, id, signal)],
  [new RegExp(`^compare/${ID}$`), (main, [id], query, signal) => showChoice(main, id, query, signal)],
  [new RegExp(`^compare/${ID}/${ID}$`), (main, ids, _, signal) => showComparison(main, ids, signal)],
  [/^manage$/, (main, _, __, signal) => showManagement(main, signal)],
];
const shown = { path: null, update: null, leave: new AbortController() };

/** Show what the address says; whether that is another view than before. */
function route({ anew = false } = {}) {
  const [path, text = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const query = new URLSearchParams(text);
  if (!anew && path === shown.path && shown.update?.(query)) return false;
  shown.leave.abort();
  Object.assign(shown, { path, update: null, leave: new AbortController() });
  notify("");
  const main = document.getElementById("main");
  replace(main);
  for (const [pattern, show] of VIEWS) {
    const match = pattern.exec(path);
    if (!match) continue;
    const update = show(main, match.slice(1), query, shown.leave.signal);
    shown.update = typeof update === "function" ? update : null;
    markCurrent(path);
    return true;
  }
  replace(main, el("section", { class: "card empty" }, el("h1", {}, "There is no such page"), el("a", { href: "#/" }, "To the jobs")));
  return true;
}

function markCurrent(path) {
  for (const link of document.querySelectorAll(".bar nav a[href^='#']")) {
    const current = link.hash.replace(/^#\/?/, "") === path;
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function askForKey(problem) {
  const dialog = document.getElementById("key-dialog");
  const alert = document.getElementById("key-problem");
  alert.hidden = !problem;
  alert.textContent = problem ?? "";
  if (!dialog.open) {
    document.getElementById("key-input").value = "";
    dialog.showModal();
  }
}

function listenForKey() {
  const dialog = document.getElementById("key-dialog");
  const input = document.getElementById("key-input");
  document.getElementById("key-button").addEventListener("click", () => askForKey());
  document.addEventListener("key-needed", (event) => askForKey(event.detail));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return; // the first button of the form would forget the key
    event.preventDefault();
    document.getElementById("key-save").click();
  });
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "save" && input.value.trim()) apiKey.set(input.value.trim());
    else if (dialog.returnValue === "forget") apiKey.set("");
    else return;
    dialog.returnValue = "";
    input.value = "";
    markKey();
    route({ anew: true });
  });
}

function markKey() {
  document.getElementById("key-button").textContent = apiKey.get() ? "API key ✓" : "API key";
}

listenForKey();
markKey();
window.addEventListener("hashchange", () => {
  if (!route()) return;
  document.getElementById("main").focus({ preventScroll: true });
  window.scrollTo(0, 0);
});
route();
