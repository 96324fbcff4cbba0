// Elements from data. Text only ever goes in through textContent.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.setAttribute("class", value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** An HTML element: el("a", {class: "x", href: "#/", onclick: f}, "text", child). */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Put children in place of what node holds, unless it shows the same already. */
export function replace(node, ...children) {
  const next = node.cloneNode(false);
  append(next, children);
  if (!next.isEqualNode(node)) node.replaceChildren(...next.childNodes);
}

/** A button that copies text and says so. */
export function copyButton(text, label = "Copy") {
  const button = el("button", { type: "button", class: "quiet small", "aria-label": `${label} to the clipboard` }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

/** A message at the top of the page; it goes when the next one comes or the page changes. */
export function notify(text, kind = "info") {
  replace(document.getElementById("notice"), text && el("p", { class: `notice ${kind}` }, text));
}

/** Ask before something is lost. */
export function confirmed(title, text, yes) {
  const dialog = document.getElementById("confirm-dialog");
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-text").textContent = text;
  document.getElementById("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
