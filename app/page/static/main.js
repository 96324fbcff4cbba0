// The page's one address bar: "#/" is the list and the form, "#/jobs/<id>" one job.

import { apiKey } from "./api.js";
import { el, notify, replace } from "./dom.js";
import { showHome } from "./home.js";
import { showJob } from "./job.js";

let leave = new AbortController();

function route() {
  leave.abort();
  leave = new AbortController();
  notify("");
  const main = document.getElementById("main");
  const job = /^#\/jobs\/([A-Za-z0-9_-]+)$/.exec(location.hash);
  replace(main);
  if (job) showJob(main, job[1], leave.signal);
  else if (["", "#", "#/"].includes(location.hash)) showHome(main, leave.signal);
  else replace(main, el("section", { class: "card empty" }, el("h1", {}, "There is no such page"), el("a", { href: "#/" }, "To the jobs")));
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
    route();
  });
}

function markKey() {
  document.getElementById("key-button").textContent = apiKey.get() ? "API key ✓" : "API key";
}

listenForKey();
markKey();
window.addEventListener("hashchange", () => {
  route();
  document.getElementById("main").focus({ preventScroll: true });
  window.scrollTo(0, 0);
});
route();
