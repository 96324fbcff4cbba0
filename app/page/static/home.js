// The first view: a form to compress a model beside the list of jobs.

import { el, replace } from "./dom.js";
import { jobForm } from "./job_form.js";
import { jobList } from "./job_list.js";

/** Show it for the query of its address; a function that shows another query, with what is typed in the form kept. */
export function showHome(main, query, signal) {
  document.title = "QPruner";
  const copyOf = query.get("copy");
  const jobs = jobList({ path: "#/", query, linkOf: (job) => `#/jobs/${job.id}` }, signal);
  replace(main,
    el("div", { class: "home" },
      el("section", { class: "card", "aria-labelledby": "form-title" },
        el("h1", { id: "form-title" }, copyOf ? "Compress again" : "Compress a model"),
        copyOf
          ? el("p", { class: "muted" }, "A copy of ", el("a", { href: `#/jobs/${copyOf}` }, "this job"), "’s settings: change what you like. ", el("a", { href: "#/" }, "Start with an empty form"))
          : el("p", { class: "muted" }, "Prunes the model, chooses a precision for each part, and trains to recover quality, all within your memory budget."),
        jobForm(signal, copyOf)),
      el("section", { class: "card", "aria-labelledby": "jobs-title" },
        el("h2", { id: "jobs-title" }, "Jobs"), jobs.node)));
  return (next) => (next.get("copy") === copyOf ? (jobs.update(next), true) : false);
}
