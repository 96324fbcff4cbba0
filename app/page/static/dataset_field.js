// The dataset of a run: a file to upload, or the name of one.

import { getJson, uploadDataset } from "./api.js";
import { el, notify, replace } from "./dom.js";

/** {node, value, missing, use}: value() uploads the chosen file once and gives its id; use(name) names a dataset. */
export function datasetField(signal) {
  const file = el("input", { type: "file", id: "dataset-file", accept: ".jsonl,.ndjson,.json,.csv,.tsv,.txt,.gz,.zst,.parquet", "aria-describedby": "field-dataset-error" });
  const text = el("input", { type: "text", id: "field-dataset", name: "dataset", list: "datasets", autocomplete: "off", spellcheck: "false", placeholder: "ds_… or org/name@revision or a path", "aria-describedby": "field-dataset-error" });
  const uploads = el("datalist", { id: "datasets" });
  const radio = (value, label, checked) => el("label", { class: "choice" },
    el("input", { type: "radio", name: "dataset-kind", value, checked }), el("span", {}, label));
  const box = el("div", { class: "upload" }, file);
  const node = el("fieldset", { class: "field", "data-field": "dataset" },
    el("legend", {}, "Dataset"),
    el("div", { class: "choices" }, radio("upload", "Upload a file", true), radio("name", "Upload id, hub id or path", false)),
    el("label", { class: "visually-hidden", for: "dataset-file" }, "File to upload"), box,
    el("label", { class: "visually-hidden", for: "field-dataset" }, "Upload id, hub id or path"), text, uploads,
    el("p", { class: "hint" }, "Text (.txt), or text, instructions, conversations or choices as .jsonl, .json, .csv or .parquet; .gz and .zst too. An estimate needs none"),
    el("p", { class: "field-error", id: "field-dataset-error", hidden: true }));
  const uploading = () => node.querySelector("input[type=radio]:checked").value === "upload";
  const show = () => ((box.hidden = !uploading()), (text.hidden = uploading()));
  node.addEventListener("change", show);
  show();
  getJson("/datasets?limit=100", signal)
    .then((page) => replace(uploads, page.datasets.map((one) => el("option", { value: one.id }, one.filename))))
    .catch(() => {}); // only a help for typing
  const sent = { file: null, id: null };
  const upload = async (chosen) => {
    notify(`Uploading ${chosen.name} …`);
    try {
      Object.assign(sent, { id: (await uploadDataset(chosen)).id, file: chosen });
    } catch (error) {
      throw error.status === 401 ? error : Object.assign(error, { problem: { ...error.problem, field: "dataset", errors: [] } });
    } finally {
      notify("");
    }
  };
  const value = async () => {
    if (!uploading()) return text.value.trim();
    const chosen = file.files[0];
    if (chosen && sent.file !== chosen) await upload(chosen);
    return chosen ? sent.id : "";
  };
  const missing = () => {
    if (uploading()) return file.files.length ? "" : "Choose a file to upload.";
    return text.value.trim() ? "" : "Give the id of an upload, a hub id or a path.";
  };
  const use = (name) => {
    node.querySelector("input[value=name]").checked = true;
    text.value = name;
    show();
  };
  return { node, value, missing, use };
}
