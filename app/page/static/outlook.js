// What lies before a job that has not ended: its place in the queue, and when it is expected to start and end.

import { el } from "./dom.js";
import { duration } from "./format.js";

/** A line of text, or nothing where nothing is known. */
export function outlook(job) {
  const said = job.status === "queued" ? waiting(job) : job.status === "running" ? running(job) : [];
  return said.length > 0 && el("p", { class: "muted small outlook" }, said.join(" · "));
}

function waiting({ queue, expected_start: start, expected_end: end }) {
  return [
    queue && (queue.ahead === 0 ? "next in the queue" : `${queue.ahead} ${queue.ahead === 1 ? "job" : "jobs"} ahead`),
    start && `expected to start ${until(start)}`,
    end && `to end ${until(end)}`,
  ].filter(Boolean);
}

function running({ expected_end: end, deadline_at: deadline }) {
  return [
    end && `expected to end ${until(end)}`,
    deadline && Date.parse(deadline) - Date.now() < 3600_000 && `must end ${until(deadline)}`,
  ].filter(Boolean);
}

/** "in about 5 min (14:32)", with the day where that is not today; seconds would claim too much. */
function until(moment) {
  const seconds = (Date.parse(moment) - Date.now()) / 1000;
  const at = new Date(moment);
  const today = at.toDateString() === new Date().toDateString();
  const clock = today ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return seconds < 30 ? "any moment" : `in about ${duration(seconds < 90 ? 60 : seconds).replace(/ \d+ s$/, "")} (${clock})`;
}
