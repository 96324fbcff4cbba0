// The service's requests. The key, where there is one, stays in this tab and only goes to this host.

import { inWords, remedyOf } from "./words.js";

const KEY = "qpruner.key";

export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY)),
};

/** An answer that is an error: a problem document, or the network's failure (status 0). */
export class ApiError extends Error {
  constructor(status, problem) {
    super([inWords(problem.detail), remedyOf(problem)].filter(Boolean).join(" "));
    this.status = status;
    this.code = problem.code ?? "";
    this.problem = problem;
  }

  /** Every field at fault with its message. */
  get faults() {
    const { errors, field } = this.problem;
    if (!(errors?.length > 1)) return [{ field: field ?? null, message: this.message }];
    return errors.map((fault) => ({ field: fault.field, message: inWords(fault.detail) }));
  }
}

function headers(more) {
  const key = apiKey.get();
  return { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...more };
}

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return { detail: `The service returned status ${response.status}.`, code: "", remedy: "" };
  }
}

async function request(method, path, { body, more, signal } = {}) {
  const sent = headers(more);
  let response;
  try {
    response = await fetch(path, { method, body, headers: sent, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { detail: "The service is unreachable.", remedy: "Is it running?", code: "network" });
  }
  if (!response.ok) {
    const error = new ApiError(response.status, await problemOf(response));
    // A late refusal of the key before is no reason to ask for the one that was given meanwhile
    const current = headers().Authorization === sent.Authorization;
    if (response.status === 401 && current) document.dispatchEvent(new CustomEvent("key-needed", { detail: error.problem.detail }));
    throw error;
  }
  return response;
}

export async function getJson(path, signal) {
  return (await request("GET", path, { signal })).json();
}

export async function postJson(path, value, more) {
  const body = value === undefined ? undefined : JSON.stringify(value);
  return (await request("POST", path, { body, more: { "Content-Type": "application/json", ...more } })).json();
}

export async function patchJson(path, value) {
  return (await request("PATCH", path, { body: JSON.stringify(value), more: { "Content-Type": "application/json" } })).json();
}

/** Delete what is at path; how many bytes of the store that frees, where the service says so. */
export async function remove(path) {
  const freed = (await request("DELETE", path)).headers.get("X-Freed-Bytes");
  return freed === null ? null : Number(freed);
}

export async function uploadDataset(file) {
  const body = new FormData();
  body.append("file", file, file.name);
  return (await request("POST", "/datasets", { body })).json();
}

/** Parse Server-Sent Events out of a response and hand each to onEvent({id, type, data}). */
async function readEvents(response, onEvent) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
      if (data.length) onEvent(JSON.parse(data.join("\n")));
    }
  }
}

const pause = (milliseconds, signal) =>
  new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });

/**
 * Follow a job's events until it has ended or signal aborts: by stream, gone on after a drop from the last event, and
 * by asking every few seconds where streams do not get through.
 */
export async function followEvents(jobId, { onEvent, onState, hasEnded, signal }) {
  const follower = { last: 0, silent: 0, wait: 0 }; // silent: streams in a row that brought nothing
  const seen = (event) => {
    if (event.id <= follower.last) return;
    Object.assign(follower, { last: event.id, silent: 0, wait: 0 });
    onEvent(event);
  };
  while (!signal.aborted) {
    const lost = new AbortController(); // a browser without a network keeps its open streams, which bring nothing
    const drop = () => lost.abort();
    window.addEventListener("offline", drop, { once: true });
    try {
      await (follower.silent < 3 ? stream : poll)(jobId, follower, seen, onState, AbortSignal.any([signal, lost.signal]));
      if (await hasEnded()) return;
    } catch (error) {
      if (signal.aborted || error.status === 404 || error.status === 401) return;
      onState("reconnecting");
    } finally {
      window.removeEventListener("offline", drop);
    }
    follower.wait = Math.min(4000, 2 * follower.wait + 250);
    await pause(follower.wait, signal);
  }
}

async function stream(jobId, follower, seen, onState, signal) {
  const more = { Accept: "text/event-stream", ...(follower.last ? { "Last-Event-ID": String(follower.last) } : {}) };
  const response = await request("GET", `/jobs/${jobId}/events`, { more, signal });
  follower.silent += 1;
  onState("live");
  if (response.status !== 204) await readEvents(response, seen);
}

async function poll(jobId, follower, seen, onState, signal) {
  const page = await getJson(`/jobs/${jobId}/events?after=${follower.last}&limit=1000`, signal);
  onState("polling");
  const silent = follower.silent;
  page.events.forEach(seen);
  follower.silent = silent;
}
