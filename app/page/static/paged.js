// A part of the page that shows a list of the service's, a page at a time.

import { getJson } from "./api.js";
import { el, notify, replace } from "./dom.js";

/**
 * {node, reload}: items of the response's list `key`, each as row(item), with a button for more where its cursor says so.
 * cursor: names of the response's cursor and of the query's. A list that the service does not have, or not for this
 * key, hides `within`.
 */
export function pagedList({ path, key, row, empty, label, within, cursor = ["next_cursor", "cursor"], limit = 20 }, signal) {
  const list = el("ul", { class: "rows", "aria-label": label });
  const none = el("p", { class: "muted", hidden: true }, empty);
  const more = el("button", { type: "button", class: "quiet small", hidden: true }, "Show more");
  const state = { next: null };
  const load = async (anew) => {
    const query = new URLSearchParams({ limit: String(limit) });
    if (!anew && state.next) query.set(cursor[1], state.next);
    try {
      const page = await getJson(`${path}?${query}`, signal);
      if (signal.aborted) return;
      if (anew) replace(list);
      list.append(...page[key].map(row));
      state.next = page[cursor[0]] ?? null;
      more.hidden = state.next === null;
      none.hidden = list.children.length > 0;
    } catch (error) {
      if (signal.aborted) return;
      if (within && [403, 404, 405].includes(error.status)) within.hidden = true;
      else replace(list, el("li", {}, el("p", { class: "alert" }, error.message)));
    }
  };
  more.addEventListener("click", () => load(false));
  load(true);
  return { node: el("div", { class: "paged" }, list, none, more), reload: () => load(true) };
}

/** A button that does something and then reload(); what goes wrong is said at the top. */
export function actionButton(label, action, { kind = "quiet small", about } = {}) {
  const button = el("button", { type: "button", class: kind, "aria-label": about && `${label} ${about}` }, label);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      notify("");
      await action();
    } catch (error) {
      notify(error.message, "error");
    } finally {
      button.disabled = false;
    }
  });
  return button;
}
