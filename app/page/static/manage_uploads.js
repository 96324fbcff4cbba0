// Uploaded datasets or models: what they are, how large, and a way to be rid of them.

import { remove } from "./api.js";
import { confirmed, copyButton, el, notify } from "./dom.js";
import { ago, bytes, count } from "./format.js";
import { actionButton, pagedList } from "./paged.js";
import { inWords } from "./words.js";

/** A card with the list of path; it hides itself where the service has no such list. */
export function uploadsCard({ path, key, title, empty, onChange }, signal) {
  const card = el("section", { class: "card", "aria-label": title }, el("h2", {}, title));
  const erase = async (one) => {
    const name = one.filename ?? one.name ?? one.id;
    if (!(await confirmed(`Delete ${name}?`, "Its files are deleted for good; finished jobs keep their results.", "Delete it"))) return;
    const freed = await remove(`${path}/${one.id}`);
    notify(freed ? `Deleted. That frees ${bytes(freed)}.` : "Deleted.");
    list.reload();
    onChange();
  };
  const row = (one) => {
    const name = one.filename ?? one.name ?? one.id;
    const about = [one.kind, one.records && `${count(one.records)} records`, one.model_type, one.status !== "ready" && one.status, one.bytes !== undefined && one.bytes !== null && bytes(one.bytes), ago(one.created_at)].filter(Boolean);
    return el("li", {},
      el("span", { class: "grow" }, el("strong", {}, name), " ", el("span", { class: "muted small" }, about.join(" · "))),
      el("code", {}, one.id), copyButton(one.id, "Copy id"), actionButton("Delete", () => erase(one), { about: name }),
      one.error && el("p", { class: "below alert" }, inWords(one.error.message)));
  };
  const list = pagedList({ path, key, row, empty, label: title, within: card }, signal);
  card.append(list.node);
  return card;
}
