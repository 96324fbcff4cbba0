// The precision of every group as a coloured cell: layers side by side, and the parts of a layer below each other.

import { el } from "./dom.js";
import { count } from "./format.js";

const MOST_COLUMNS = 32;
const ROWS = { attention: "Attention", mlp: "MLP" };
const OUTSIDE = { embeddings: "Embeddings", head: "Head" };

/** Groups such as "layers.3", "layers.3.mlp", "layers.3.self_attn.q_proj" or "embeddings", by layer and part. */
function arrange(groups, precisions) {
  const layers = [];
  const outside = [];
  groups.forEach((name, index) => {
    const [, layer, part = ""] = /^layers\.(\d+)(?:\.(.+))?$/.exec(name) ?? [];
    if (layer === undefined) outside.push({ name: OUTSIDE[name] ?? name, precision: precisions[index] });
    else (layers[layer] ??= new Map()).set(part, precisions[index]);
  });
  const parts = [...new Set(layers.flatMap((layer) => [...layer.keys()]))];
  const unit = parts.every((part) => part === "") ? "layer" : parts.every((part) => part in ROWS) ? "block" : "module";
  return { layers, parts, outside, unit };
}

/** A card with a cell for each group, named by its precision; widths are those of the layers, where they are known. */
export function heatMap(groups, precisions, note, widths) {
  const named = groups?.length === precisions.length ? groups : precisions.map((_, layer) => `layers.${layer}`);
  const { layers, parts, outside, unit } = arrange(named, precisions);
  const title = `Precision of each ${unit}${note}`;
  const used = inOrder([...layers.flatMap((layer) => [...layer.values()]), ...outside.map((one) => one.precision)]);
  const cell = cellMaker(used);
  const about = (layer, part) => {
    const shape = Object.entries(widths?.[layer] ?? {}).map(([name, size]) => `${name.replaceAll("_", " ")} ${count(size)}`).join(", ");
    return `Layer ${layer}${part && `, ${rowName(part, parts)}`}: ${layers[layer].get(part)}${shape && `; ${shape}`}`;
  };
  return el("section", { class: "card" },
    el("div", { class: "row between wrap" }, el("h2", {}, title), legend(layers, outside, unit, used)),
    el("div", { class: "heat" },
      unit === "layer" ? strip(layers, title, about, cell) : el("div", { class: "bands" }, tables(layers, parts, title, about, cell)),
      outside.length > 0 && el("ul", { class: "outside", "aria-label": "Outside the layers" }, outside.map((one) =>
        cell("li", one.precision, `${one.name}: ${one.precision}`, el("span", {}, one.name))))));
}

/** What makes a cell: the bits of its precision, and below them what tells it from others of as many. */
function cellMaker(used) {
  const several = (precision) => used.some((one) => one !== precision && bits(one) === bits(precision));
  const plain = used.every((precision) => !several(precision) && kind(precision) === "");
  return (tag, precision, says, ...more) => el(tag, { class: `cell ${colour(precision, used)}`, title: says, "aria-label": says },
    el("b", {}, bits(precision), !plain && el("small", {}, kind(precision) || (several(precision) ? precision : "\u00a0"))), more);
}

/** Bits in the name of a precision: 4 of "nf4", "q4_k" and "int4_g64", 16 of "bf16". */
function bits(precision) {
  return Number(/\d+/.exec(precision)?.[0] ?? 16);
}

/** What a name has behind its bits: "K" of "q4_k", "XS" of "iq4_xs", "G64" of "int4_g64"; nothing of "nf4" and "bf16".
 *  Of a group whose modules are stored in several, as "iq4_nl + q5_0", "MIX" is behind those of the smallest. */
function kind(precision) {
  if (precision.includes(" + ")) return "MIX";
  const rest = /^[a-z]+\d+_(.+)$/.exec(precision)?.[1].toUpperCase() ?? "";
  return rest === "CHANNEL" ? "CH" : rest;
}

/** Each precision once, by rising bits. */
function inOrder(precisions) {
  return [...new Set(precisions)].sort((a, b) => bits(a) - bits(b) || a.localeCompare(b));
}

/** The classes of a precision's colour: one for its bits, and a shade among the used ones of as many. */
function colour(precision, used) {
  const alike = used.filter((one) => bits(one) === bits(precision));
  const nearest = [2, 3, 4, 5, 6, 8, 16].find((one) => one >= bits(precision)) ?? 16;
  return `bits-${nearest} shade-${Math.min(alike.indexOf(precision), 3)}`;
}

/** One row that breaks where the screen ends. */
function strip(layers, title, about, cell) {
  return el("ol", { class: "strip", "aria-label": title }, layers.map((layer, index) =>
    cell("li", layer.get(""), about(index, ""), el("span", {}, index))));
}

/** One row a part, and so many layers in a table as a screen has room for; a narrow screen scrolls through one table. */
function tables(layers, parts, title, about, cell) {
  const bands = matchMedia("(max-width: 52rem)").matches ? 1 : Math.ceil(layers.length / MOST_COLUMNS);
  const size = Math.ceil(layers.length / bands);
  const indices = layers.map((_, index) => index);
  return Array.from({ length: bands }, (_, band) => indices.slice(band * size, (band + 1) * size)).map((some) => {
    const name = bands > 1 ? `${title}, layers ${some[0]} to ${some.at(-1)}` : title;
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Layer"), some.map((index) => el("th", { scope: "col" }, index)))),
      el("tbody", {}, parts.map((part) => el("tr", {}, el("th", { scope: "row", title: part }, rowName(part, parts)),
        some.map((index) => (layers[index].has(part) ? cell("td", layers[index].get(part), about(index, part)) : el("td"))))))));
  });
}

/** The last word of a module's path, unless another module ends in it too. */
function rowName(part, parts) {
  const last = (path) => path.split(".").pop();
  return ROWS[part] ?? (parts.filter((one) => last(one) === last(part)).length > 1 ? part : last(part));
}

/** Counts of groups by precision. */
function legend(layers, outside, unit, used) {
  const inside = layers.flatMap((layer) => [...layer.values()]);
  return el("ul", { class: "legend" }, used.map((precision) => {
    const number = inside.filter((one) => one === precision).length;
    const names = outside.filter((one) => one.precision === precision).map((one) => one.name.toLowerCase());
    const what = [number > 0 && `${number} ${unit}${number === 1 ? "" : "s"}`, ...names].filter(Boolean);
    return el("li", {}, el("i", { class: `dot ${colour(precision, used)}` }), `${precision}: ${what.join(", ")}`);
  }));
}
