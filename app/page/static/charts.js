// Charts as inline SVG; every point can be reached and read without seeing it.

import { el, svg } from "./dom.js";
import { bytes, count, decimal } from "./format.js";

const WIDTH = matchMedia("(max-width: 34rem)").matches ? 350 : 560; // text keeps its size on a phone
const HEIGHT = 260;
const LEFT = 58;
const RIGHT = 14;
const TOP = 14;
const BOTTOM = 40;

function scale([low, high], [from, to]) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function padded(values, share = 0.06) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const pad = (high - low || Math.abs(high) * 0.1 || 1) * share;
  return [low - pad, high + pad];
}

/** About four round numbers inside a range. */
function ticks([low, high]) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
  return found;
}

/** As many decimals as tell one tick of the range from the next. */
function tickFormat(range) {
  const [first, second] = ticks(range);
  const digits = Math.max(0, Math.ceil(-Math.log10(second - first || 1) - 1e-9));
  return (value) => (digits > 4 ? value.toExponential(0) : decimal(value, digits));
}

/** Ticks of a range of decimal logarithms: powers of ten, with their doubles and halves where few fit. */
function logTicks([low, high]) {
  const steps = high - low > 1.5 ? [1] : [1, 2, 5];
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, place) => Math.floor(low) + place);
  const found = powers.flatMap((power) => steps.map((one) => Math.log10(one) + power)).filter((one) => one >= low && one <= high);
  return found.length > 1 ? found : ticks([low, high]);
}

function frame(label, x, y, rangeX, rangeY, nameX, nameY, formatX, formatY, ticksY = ticks(rangeY), height = HEIGHT) {
  const bottom = height - BOTTOM;
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "chart", role: "img", "aria-label": label },
    ticksY.map((value) => [
      svg("line", { class: "grid-line", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, formatY(value))]),
    ticks(rangeX).map((value) => svg("text", { x: x(value), y: bottom + 17, "text-anchor": "middle" }, formatX(value))),
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: bottom, y2: bottom }),
    svg("text", { class: "axis-name", x: (LEFT + WIDTH - RIGHT) / 2, y: height - 6, "text-anchor": "middle" }, nameX),
    svg("text", { class: "axis-name", x: 12, y: (TOP + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(TOP + bottom) / 2})` }, nameY));
}

/** Every allocation tried, by bytes and loss, with the front that none beats and the budget. */
export function trialsChart({ trials, pareto_front: front, selected }, budget) {
  const near = budget <= 1.35 * Math.max(...trials.map((one) => one.bytes));
  const rangeX = padded([...trials.map((one) => one.bytes), ...(near ? [budget] : [])]);
  const log = (loss) => Math.log10(Math.max(loss, 1e-9)); // losses of one search differ a hundredfold
  const whole = trials.filter((one) => !one.stopped_early);
  const rangeY = padded((whole.length ? whole : trials).map((one) => log(one.loss)));
  const x = scale(rangeX, [LEFT, WIDTH - RIGHT]);
  const onLog = scale(rangeY, [HEIGHT - BOTTOM, TOP]);
  const y = (loss) => Math.max(TOP, onLog(log(loss))); // what was stopped because it is hopeless is at the top
  const byIndex = new Map(trials.map((one) => [one.index, one]));
  const chart = frame(`${trials.length} allocations tried`, x, onLog, rangeX, rangeY, "bytes when loaded", "loss, nats per token (log)",
    (value) => bytes(value).replace(".0 ", " "), (value) => String(Number((10 ** value).toPrecision(2))), logTicks(rangeY));
  const path = front.map((index) => byIndex.get(index)).map((one, place, all) =>
    place === 0 ? `M${x(one.bytes)} ${y(one.loss)}` : `L${x(one.bytes)} ${y(all[place - 1].loss)}L${x(one.bytes)} ${y(one.loss)}`).join("");
  if (near) chart.append(svg("line", { class: "budget", x1: x(budget), x2: x(budget), y1: TOP, y2: HEIGHT - BOTTOM }),
    svg("text", { class: "budget-name", x: x(budget) - 5, y: TOP + 10, "text-anchor": "end" }, "budget"));
  chart.append(svg("path", { class: "front", d: path }));
  for (const one of trials) {
    const kind = one.index === selected ? "selected" : front.includes(one.index) ? "best" : one.stopped_early ? "stopped" : "";
    chart.append(svg("circle", { class: `trial ${kind}`, cx: x(one.bytes), cy: y(one.loss), r: kind === "selected" ? 6.5 : 4 },
      svg("title", {}, `Trial ${one.index} (${one.origin}): ${bytes(one.bytes)}, loss ${one.loss.toPrecision(4)}${one.stopped_early ? ", stopped early" : ""}`)));
  }
  return el("section", { class: "card" },
    el("div", { class: "row between wrap" }, el("h2", {}, "Allocations tried"),
      el("ul", { class: "legend" }, el("li", {}, el("i", { class: "dot plain" }), `${trials.length} trials`), el("li", {}, el("i", { class: "dot front-dot" }), "Pareto front"),
        whole.length < trials.length && el("li", {}, el("i", { class: "dot stopped-dot" }), `${trials.length - whole.length} stopped early`),
        selected !== null && el("li", {}, el("i", { class: "dot chosen" }), "chosen"))),
    chart);
}

const CURVES = { "finetune.loss": "training", "finetune.validation_loss": "held-back text" };

/** The losses of recovery over optimiser steps, one above the other where no scale would show both. */
export function recoveryChart(curves) {
  const shown = Object.entries(curves).filter(([name, points]) => name in CURVES && points.length > 1)
    .map(([name, points]) => ({ label: CURVES[name], kind: name.split(".")[1], points, values: points.map((one) => one.value) }));
  if (shown.length === 0) return null;
  const low = Math.max(...shown.map((one) => Math.min(...one.values)));
  const high = Math.min(...shown.map((one) => Math.max(...one.values)));
  const panels = low <= high ? [shown] : shown.map((one) => [one]);
  const steps = shown.flatMap((one) => one.points.map((point) => point.step));
  const rangeX = [Math.min(...steps), Math.max(...steps)];
  return el("section", { class: "card" },
    el("div", { class: "row between wrap" }, el("h2", {}, "Recovery loss"),
      el("ul", { class: "legend" }, shown.map((one) => el("li", {}, el("i", { class: `dot ${one.kind}` }), one.label)))),
    panels.map((panel) => lossPanel(panel, rangeX, panels.length === 1 ? HEIGHT : 0.6 * HEIGHT)));
}

/** Curves on one scale: of many points a smoothed line over the points as they came, of few the points themselves. */
function lossPanel(curves, rangeX, height) {
  const rangeY = padded(curves.flatMap((one) => one.values));
  const x = scale(rangeX, [LEFT, WIDTH - RIGHT]);
  const y = scale(rangeY, [height - BOTTOM, TOP]);
  const says = curves.map((one) => `${one.label} from ${decimal(one.values[0])} to ${decimal(one.values.at(-1))}`).join("; ");
  const chart = frame(`Recovery loss: ${says}`, x, y, rangeX, rangeY, "step", "nats per token",
    (value) => count(value), tickFormat(rangeY), ticks(rangeY), height);
  for (const { kind, label, points, values } of curves) {
    const line = (some) => some.map((value, place) => `${place ? "L" : "M"}${x(points[place].step)} ${y(value)}`).join("");
    const weight = Math.min(0.9, Math.max(0, 1 - 12 / points.length));
    let mean = values[0];
    if (weight > 0) chart.append(svg("path", { class: `raw ${kind}`, d: line(values) }));
    chart.append(svg("path", { class: `smooth ${kind}`, d: line(values.map((value) => (mean = weight * mean + (1 - weight) * value))) }));
    if (weight === 0) for (const point of points) {
      chart.append(svg("circle", { class: `point ${kind}`, cx: x(point.step), cy: y(point.value), r: 3.5 },
        svg("title", {}, `Step ${point.step}, ${label}: ${decimal(point.value, 3)}`)));
    }
  }
  return chart;
}
