// The precision of every group as a coloured cell: layers side by side, and the parts of a layer below each other.

import { el } from "./dom.js";
import { count } from "./format.js";

const ROWS = { attention: "Attention", mlp: "MLP" };
const OUTSIDE = { embeddings: "Embeddings", head: "Head" };

/** Groups such as "layers.3", "layers.3.mlp", "layers.3.self_attn.q_proj" or "embeddings", by layer and part. */
function arrange(groups, bits) {
  const layers = [];
  const outside = [];
  groups.forEach((name, index) => {
    const [, layer, part = ""] = /^layers\.(\d+)(?:\.(.+))?$/.exec(name) ?? [];
    if (layer === undefined) outside.push({ name: OUTSIDE[name] ?? name, bits: bits[index] });
    else (layers[layer] ??= new Map()).set(part, bits[index]);
  });
  const parts = [...new Set(layers.flatMap((layer) => [...layer.keys()]))];
  const unit = parts.every((part) => part === "") ? "layer" : parts.every((part) => part in ROWS) ? "block" : "module";
  return { layers, parts, outside, unit };
}

/** A card with a cell for each group, lettered by its bits; widths are those of the layers, where they are known. */
export function heatMap(groups, bits, note, widths) {
  const named = groups?.length === bits.length ? groups : bits.map((_, layer) => `layers.${layer}`);
  const { layers, parts, outside, unit } = arrange(named, bits);
  const title = `Precision of each ${unit}${note}`;
  const about = (layer, part) => {
    const shape = Object.entries(widths?.[layer] ?? {}).map(([name, size]) => `${name.replaceAll("_", " ")} ${count(size)}`).join(", ");
    return `Layer ${layer}${part && `, ${rowName(part, parts)}`}: ${layers[layer].get(part)} bits${shape && `; ${shape}`}`;
  };
  return el("section", { class: "card" },
    el("div", { class: "row between wrap" }, el("h2", {}, title), legend(layers, outside, unit)),
    el("div", { class: "heat" },
      unit === "layer" ? strip(layers, title, about) : table(layers, parts, title, about),
      outside.length > 0 && el("ul", { class: "outside", "aria-label": "Outside the layers" }, outside.map((one) =>
        cell("li", one.bits, `${one.name}: ${one.bits} bits`, el("span", {}, one.name))))));
}

function cell(tag, bits, says, ...more) {
  return el(tag, { class: `cell bits-${bits}`, title: says, "aria-label": says }, el("b", {}, bits), more);
}

/** One row that breaks where the screen ends. */
function strip(layers, title, about) {
  return el("ol", { class: "strip", "aria-label": title }, layers.map((layer, index) =>
    cell("li", layer.get(""), about(index, ""), el("span", {}, index))));
}

/** One row a part; it scrolls sideways below its names where the screen is too narrow. */
function table(layers, parts, title, about) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Layer"), layers.map((_, index) => el("th", { scope: "col" }, index)))),
    el("tbody", {}, parts.map((part) => el("tr", {}, el("th", { scope: "row", title: part }, rowName(part, parts)),
      layers.map((layer, index) => (layer.has(part) ? cell("td", layer.get(part), about(index, part)) : el("td"))))))));
}

/** The last word of a module's path, unless another module ends in it too. */
function rowName(part, parts) {
  const last = (path) => path.split(".").pop();
  return ROWS[part] ?? (parts.filter((one) => last(one) === last(part)).length > 1 ? part : last(part));
}

/** How many groups have how many bits. */
function legend(layers, outside, unit) {
  const inside = layers.flatMap((layer) => [...layer.values()]);
  const used = [...new Set([...inside, ...outside.map((one) => one.bits)])].sort((a, b) => a - b);
  return el("ul", { class: "legend" }, used.map((bit) => {
    const number = inside.filter((one) => one === bit).length;
    const names = outside.filter((one) => one.bits === bit).map((one) => one.name.toLowerCase());
    const what = [number > 0 && `${number} ${unit}${number === 1 ? "" : "s"}`, ...names].filter(Boolean);
    return el("li", {}, el("i", { class: `dot bits-${bit}` }), `${bit} bits: ${what.join(", ")}`);
  }));
}
