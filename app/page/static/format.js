// Numbers and times as people read them.

/** 131072000 as "131.1 MB": decimal units, as budgets are given. */
export function bytes(count) {
  let size = Number(count);
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (Math.abs(size) < 1000) return `${unit === "B" ? size.toFixed(0) : size.toFixed(1)} ${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(2)} TB`;
}

export const percent = (part, digits = 0) => `${(100 * part).toFixed(digits)} %`;

/** A change against a base, with its sign: "−52 %". */
export function change(value, base) {
  if (!base) return "";
  const part = (100 * (value - base)) / base;
  const text = Math.abs(part) < 10 ? Math.abs(part).toFixed(1) : Math.abs(part).toFixed(0);
  return Number(text) === 0 ? "±0 %" : `${part < 0 ? "−" : "+"}${text} %`;
}

export const count = (value) => Number(value).toLocaleString("en", { maximumFractionDigits: 0 });

export const decimal = (value, digits = 2) =>
  Number(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Seconds as "4.2 s", "3 min 5 s" or "2 h 10 min". */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** How long ago a time was. */
export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (seconds < 5) return "just now";
  return seconds < 86400 ? `${duration(Math.max(10, seconds)).split(" ").slice(0, 2).join(" ")} ago` : new Date(time).toLocaleDateString();
}

export const clock = (time) => new Date(time).toLocaleString();

/** The last part of a path or hub id. */
export const shortName = (model) => model.replace(/\/+$/, "").split("/").pop() || model;
