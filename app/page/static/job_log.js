// What the processes of a job printed; loaded when it is opened, and again on demand.

import { getJson } from "./api.js";
import { el, replace } from "./dom.js";
import { bytes } from "./format.js";

/** A card that is closed at first. */
export function logCard(id, signal) {
  const content = el("div", { class: "log", "aria-live": "off" });
  const load = async () => {
    try {
      const { logs } = await getJson(`/jobs/${id}/logs`, signal);
      replace(content, logs.length ? logs.map((one) => entry(one, logs.length > 1)) : el("p", { class: "muted" }, "Nothing was printed yet."));
    } catch (error) {
      if (!signal.aborted) replace(content, el("p", { class: "muted" }, error.message));
    }
  };
  const card = el("details", { class: "card" },
    el("summary", {}, "Log"),
    el("button", { type: "button", class: "quiet small", onclick: load }, "Refresh"), content);
  card.addEventListener("toggle", () => card.open && load());
  return card;
}

function entry(log, titled) {
  return [
    titled && el("h3", {}, `Attempt ${log.attempt}`),
    log.omitted_bytes > 0 && el("p", { class: "muted small" }, `${bytes(log.omitted_bytes)} before this are not kept.`),
    el("pre", { tabindex: 0, "aria-label": `Output of attempt ${log.attempt}` }, log.text),
  ];
}
