// One job, live: what it does now, what the search tries, what came out, and where the files are.

import { followEvents, getJson, postJson, remove } from "./api.js";
import { recoveryChart, trialsChart } from "./charts.js";
import { confirmed, copyButton, el, notify, replace } from "./dom.js";
import { bytes, clock, duration, percent, shortName } from "./format.js";
import { heatMap } from "./heat_map.js";
import { badge } from "./job_list.js";
import { logCard } from "./job_log.js";
import { artifactsCard, headline, measurementsCard } from "./job_result.js";
import { outlook } from "./outlook.js";
import { stageTimeline } from "./timeline.js";
import { inWords, remedyOf } from "./words.js";

const ENDED = ["succeeded", "failed", "cancelled"];
const QUEUE_REFRESH = 5000;

export function showJob(main, id, signal) {
  new JobPage(main, id, signal).start();
}

class JobPage {
  constructor(main, id, signal) {
    Object.assign(this, { main, id, signal, job: null, trials: null, metrics: null, artifacts: [], events: [], connection: "" });
    this.progress = {}; // by stage: {fraction, message}
    this.timers = {};
    this.parts = Object.fromEntries(["head", "now", "result", "charts", "files", "log", "history"].map((name) => [name, el("div", { class: `part-${name}` })]));
    signal.addEventListener("abort", () => Object.values(this.timers).forEach(clearTimeout));
  }

  async start() {
    if (!(await this.loadJob())) return;
    replace(this.main, el("div", { class: "job" }, Object.values(this.parts)));
    replace(this.parts.log, logCard(this.id, this.signal));
    await Promise.all([this.loadTrials(), this.loadMetrics(), this.loadArtifacts()]);
    const ticks = [
      setInterval(() => this.job.status === "running" && this.renderNow(), 1000),
      setInterval(() => this.job.status === "queued" && this.loadJob(), QUEUE_REFRESH), // others' jobs send no events here
    ];
    this.signal.addEventListener("abort", () => ticks.forEach(clearInterval));
    await followEvents(this.id, {
      signal: this.signal,
      onEvent: (event) => this.onEvent(event),
      onState: (state) => this.onState(state),
      hasEnded: async () => (await this.loadJob()) && ENDED.includes(this.job.status),
    });
    if (this.signal.aborted) return;
    this.connection = "";
    this.renderNow();
    await Promise.all([this.loadTrials(), this.loadMetrics(), this.loadArtifacts()]);
  }

  /** Once the service is back, what it said while it was away is over, and what happened meanwhile shows at once. */
  onState(state) {
    const back = this.connection === "reconnecting" && state !== "reconnecting";
    this.connection = state;
    this.renderNow();
    if (!back) return;
    notify("");
    this.loadJob();
    this.loadTrials();
    this.loadMetrics();
  }

  onEvent(event) {
    const { stage, fraction, message } = event.data;
    this.events.push(event);
    if (event.type === "stage_progress") {
      this.progress[stage] = { fraction, message };
      if (stage === "allocate") this.soon("trials", 1500, () => this.loadTrials());
      if (stage === "finetune") this.soon("metrics", 1500, () => this.loadMetrics());
      this.soon("job", 1000, () => this.loadJob());
    } else {
      if (event.type === "stage_started") this.progress[stage] = { fraction: 0, message: "" };
      this.soon("job", 150, () => this.loadJob());
      this.soon("trials", 400, () => this.loadTrials());
      this.soon("metrics", 400, () => this.loadMetrics());
    }
    this.soon("now", 100, () => this.renderNow());
    this.soon("history", 300, () => this.renderHistory());
  }

  /** Do something once shortly, however often it is asked for meanwhile. */
  soon(name, milliseconds, action) {
    this.timers[name] ??= setTimeout(() => ((this.timers[name] = undefined), this.signal.aborted || action()), milliseconds);
  }

  async load(path, show) {
    try {
      const value = await getJson(`/jobs/${this.id}${path}`, this.signal);
      if (this.signal.aborted) return false;
      show(value);
      return true;
    } catch (error) {
      if (this.signal.aborted || (this.job && error.status === 0)) return false;
      if (!this.job) replace(this.main, el("section", { class: "card empty" },
        el("h1", {}, error.status === 404 ? "There is no such job" : "The job cannot be shown"),
        el("p", { class: "muted" }, error.message), el("a", { href: "#/" }, "To the jobs")));
      else notify(error.message, "error");
      return false;
    }
  }

  loadJob() {
    return this.load("", (job) => {
      this.job = job;
      document.title = `${shortName(job.model)} · QPruner`;
      this.renderHead();
      this.renderNow();
      this.renderResult();
    });
  }

  loadTrials() {
    return this.load("/trials", (trials) => ((this.trials = trials), this.renderCharts()));
  }

  loadMetrics() {
    return this.load("/metrics", (metrics) => ((this.metrics = metrics), this.renderCharts()));
  }

  loadArtifacts() {
    return this.load("/artifacts", ({ artifacts }) => {
      this.artifacts = artifacts;
      replace(this.parts.files, artifacts.length ? artifactsCard(this.job, artifacts) : null);
    });
  }

  renderHead() {
    const { job } = this;
    const ended = ENDED.includes(job.status);
    const button = (label, kind, action) => el("button", { type: "button", class: kind, onclick: () => this.act(action) }, label);
    const retry = ended && job.status !== "succeeded" && button("Retry", "primary", () => postJson(`/jobs/${this.id}/retry`));
    const cancel = !ended && !job.cancel_requested && button("Cancel", "quiet", () => postJson(`/jobs/${this.id}/cancel`));
    const erase = ended && button("Delete", "quiet", () => this.erase());
    replace(this.parts.head,
      el("a", { href: "#/", class: "back" }, "← Jobs"),
      el("div", { class: "row between wrap" },
        el("h1", {}, shortName(job.model), " ", badge(job)),
        el("div", { class: "actions" }, retry, cancel,
          el("a", { class: "button", href: `#/?copy=${this.id}` }, "Duplicate"),
          el("a", { class: "button", href: `#/compare/${this.id}` }, "Compare"), erase)),
      el("dl", { class: "facts" },
        job.config.target && fact("Target", job.config.target),
        job.config.runs_on && fact("Runs on", job.config.runs_on),
        fact("Budget", bytes(job.memory_budget)), fact("Dataset", job.dataset), fact("Created", clock(job.created_at)),
        job.attempt > 0 && fact("Attempt", `${job.attempt} of ${job.max_attempts}`),
        Object.entries(job.labels).map(([key, value]) => el("div", {}, el("dt", {}, "Label"), el("dd", {}, el("a", { href: `#/?q=${encodeURIComponent(`${key}:${value}`)}` }, `${key}:${value}`)))),
        el("div", {}, el("dt", {}, "Id"), el("dd", {}, el("code", {}, job.id)))));
  }

  async act(action) {
    try {
      notify("");
      if ((await action()) === false) return;
      if (!this.signal.aborted) showJob(this.main, this.id, this.restart());
    } catch (error) {
      notify(error.message, "error");
    }
  }

  /** Stop this view's timers and streams, and give the signal of the one that follows it. */
  restart() {
    const next = new AbortController();
    this.signal.addEventListener("abort", () => next.abort());
    Object.values(this.timers).forEach(clearTimeout);
    this.loadJob = this.loadTrials = this.loadMetrics = this.loadArtifacts = async () => false;
    return next.signal;
  }

  async erase() {
    if (!(await confirmed("Delete this job?", "Its history and its files are deleted for good.", "Delete it"))) return false;
    await remove(`/jobs/${this.id}`);
    location.hash = "#/";
    return false;
  }

  renderNow() {
    const { job } = this;
    const running = job.stage && this.progress[job.stage];
    const elapsed = job.status !== "queued" && job.started_at && ((job.finished_at ? Date.parse(job.finished_at) : Date.now()) - Date.parse(job.started_at)) / 1000;
    const words = {
      queued: "Waiting for a worker",
      running: job.cancel_requested ? "Stopping" : running?.message || (job.stage ? `Stage ${job.stage}` : "Starting"),
      succeeded: "Finished", failed: "Failed", cancelled: "Cancelled",
    };
    replace(this.parts.now,
      job.error && el("section", { class: "card failure", role: "alert" },
        el("h2", {}, inWords(job.error.message)),
        el("p", {}, remedyOf(job.error)),
        el("p", { class: "muted small" }, "Code ", el("code", {}, job.error.code), job.error.field && [" · setting ", el("code", {}, job.error.field)])),
      el("section", { class: "card", "aria-label": "Progress" },
        el("div", { class: "row between" },
          el("span", {}, words[job.status], el("span", { class: "muted" }, elapsed ? ` · ${duration(Math.max(0, elapsed))}` : "")),
          el("span", { class: "muted small" }, this.connection && !ENDED.includes(job.status) && el("span", { class: `live ${this.connection}` }, this.connection), " ", percent(job.progress))),
        el("progress", { max: 1, value: job.progress, "aria-label": "Progress of the whole job" }),
        outlook(job),
        stageTimeline(job, this.progress)));
  }

  renderResult() {
    const report = this.job.result;
    replace(this.parts.result, report && [headline(report), measurementsCard(report)]);
  }

  renderCharts() {
    const { job, trials, metrics } = this;
    const best = trials?.trials.filter((one) => !one.stopped_early && one.bytes <= job.memory_budget).sort((a, b) => a.loss - b.loss)[0];
    const stored = job.result?.stored?.length > 0 && job.result.stored.map((names) => names.join(" + "));
    const precisions = stored || (job.result?.precisions ?? best?.precisions);
    const groups = job.result?.groups ?? trials?.groups;
    replace(this.parts.charts,
      precisions && heatMap(groups, precisions, job.result ? "" : ", best so far", job.result?.widths),
      trials?.trials.length > 0 && trialsChart(trials, job.memory_budget),
      recoveryChart(metrics?.curves ?? {}));
  }

  renderHistory() {
    const rows = this.events.filter((event) => event.type !== "stage_progress").slice(-200).reverse();
    const open = this.parts.history.querySelector("details[open]") !== null;
    replace(this.parts.history, el("details", { class: "card", open },
      el("summary", {}, `History (${rows.length})`),
      el("ol", { class: "history" }, rows.map((event) => el("li", {},
        el("time", { class: "muted", datetime: event.created_at }, new Date(event.created_at).toLocaleTimeString()),
        el("strong", {}, event.type.replaceAll("_", " ")), el("span", {}, describe(event)))))),
      el("details", { class: "card" }, el("summary", {}, "Settings"),
        copyButton(JSON.stringify(this.job.config, null, 2), "Copy settings"),
        el("pre", {}, JSON.stringify(this.job.config, null, 2))));
  }
}

const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

function describe({ data }) {
  return [data.stage, data.reused_from ? `reused from ${data.reused_from}` : data.resumed && "resumed", data.seconds !== undefined && data.seconds !== null && duration(data.seconds), data.message ?? data.reason]
    .filter(Boolean).join(" · ");
}
