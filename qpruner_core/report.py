"""Report of a run: the before/after table, and an estimate before any work."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from qpruner_core.compute.config import Compute
from qpruner_core.device_fit.config import CacheType
from qpruner_core.events import FileRecord, StageName
from qpruner_core.formats.declarations import label_of
from qpruner_core.precision_names import precision_names
from qpruner_core.strict import StrictModel
from qpruner_core.targets.config import TargetName


class Measurement(StrictModel):
    """One row of the table. Every figure was measured, none predicted.

    ``variant``: dense: the original model; pruned; pruned_nf4: pruned with all its layers at NF4; mixed: at the chosen
    precisions with the initial adapters; final: after recovery; and each further format. Exported checkpoints are read
    back from their files. ``label``: name of the row. ``bytes``: storage of all parameters and buffers of the loaded
    model. ``file_bytes``: bytes of its exported files; null for other rows. ``perplexity``: exp of the mean negative
    log-likelihood per held-out token. ``divergence``: mean KL divergence of the predictions from the dense model's,
    nats per token, and ``top1_agreement``: share of tokens for which both predict the same next token; on the first
    ``compared_tokens`` of the held-out text. Null for the dense model, and in old reports. ``accuracy``: share of
    multiple-choice examples whose right choice had the highest log-likelihood, with its standard error; null if the
    dataset has no choices. ``tokens_per_second``: greedy generation at batch 1 by ``speed_engine``, the format's own if
    it is installed, else torch; ``prefill_tokens_per_second``: reading a prompt, null in torch. Both are null in old
    reports.
    """

    variant: str
    label: str = ""
    parameters: int
    bytes: int
    file_bytes: int | None = None
    perplexity: float
    divergence: float | None = None
    top1_agreement: float | None = None
    compared_tokens: int | None = None
    accuracy: float | None = None
    accuracy_stderr: float | None = None
    tokens_per_second: float
    prefill_tokens_per_second: float | None = None
    speed_engine: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _rows_had_no_labels(cls, values: Any) -> Any:
        """Rows of release 0.1.0 have no label."""
        if isinstance(values, dict) and not values.get("label") and isinstance(values.get("variant"), str):
            return values | {"label": label_of(values["variant"])}
        return values


class Snippet(StrictModel):
    """Command or code that runs a checkpoint with ``tool``."""

    tool: str
    language: Literal["python", "shell"]
    text: str


class ExportedFormat(StrictModel):
    """A checkpoint of the result: its directory or file in the output (``path``), its description, the name of its
    artifact of a job (``artifact``), bytes of its files, and how to run it."""

    name: str
    title: str
    path: str
    artifact: str
    bytes: int
    snippets: tuple[Snippet, ...]


class RatioTrial(StrictModel):
    """A ratio that was tried within the budget, if ``prune.ratio_choice`` is "measured".

    ``bits``: average per weight; ``bytes``: of the loaded model; ``loss``: KL divergence of its predictions from the
    dense model's, nats per token, before recovery.
    """

    ratio: float
    removed_fraction: float
    bits: float
    bytes: int
    loss: float


class Pruning(StrictModel):
    """Result of pruning.

    ``ratio``: requested fraction of the layers' parameters; ``removed_fraction``: actual fraction. ``parameters_…``
    count the whole model, ``block_parameters_…`` its decoder layers. ``bytes_…`` are those of the loaded 16-bit model.
    ``removed_layers``: whole layers removed, by their position in the dense model. ``width_multiple``: multiple that
    MLP widths were rounded to; ``None`` if no width was cut, and in old reports. ``ratio_reason``: reason for the
    ratio, in a sentence; empty in old reports. ``ratio_trials``: all measured ratios, if it was chosen by measuring.
    """

    ratio: float
    removed_fraction: float
    criterion: str
    layout: str
    compensation: str
    width_multiple: int | None = None
    removed_layers: list[int]
    parameters_before: int
    parameters_after: int
    block_parameters_before: int
    block_parameters_after: int
    bytes_before: int
    bytes_after: int
    widths: list[dict[str, int]]
    ratio_reason: str = ""
    ratio_trials: tuple[RatioTrial, ...] = ()


class BytesByPart(StrictModel):
    """Bytes of the loaded model, by part; their sum is compared with the budget."""

    embeddings: int
    layers: int
    quantization_constants: int
    norms: int
    adapters: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.embeddings + self.layers + self.quantization_constants + self.norms + self.adapters


class DeviceMemory(StrictModel):
    """Shares of a device's memory, in bytes: ``weights + kv_cache + activations + engine == memory``.

    ``weights``: the rest, which is the budget of the run. ``kv_cache``: as allocated by the engine of ``target`` for
    ``sequences`` of ``context`` tokens. ``activations``: hidden states, buffers of products, logits. ``engine``:
    process or GPU context, and memory that the engine leaves to others.
    """

    memory: int
    weights: int
    kv_cache: int
    activations: int
    engine: int
    context: int
    sequences: int
    cache_type: CacheType
    target: TargetName


class Estimate(StrictModel):
    """Prediction of a run, from shapes alone.

    ``stage_seconds``: expected seconds of each stage, empty while the speed of the machine is unknown; ``notes``:
    assumptions of times and bytes. ``memory_budget``, ``smallest_feasible_bytes``: of weights. ``device``: shares of
    the device's memory, if the run has ``fit``; ``smallest_feasible_memory``: of such a device, in the same use.
    """

    feasible: bool
    memory_budget: int
    device: DeviceMemory | None = None
    smallest_feasible_memory: int | None = None
    dense_bytes: int
    smallest_feasible_bytes: int
    prune_ratio: float
    predicted_bytes: BytesByPart
    predicted_total_bytes: int
    stage_seconds: dict[StageName, float]
    notes: tuple[str, ...] = ()


class CompressionReport(StrictModel):
    """The result of a run.

    ``precisions``: chosen precision of each of ``groups``, the modules that share one. ``stored``: precisions that the
    modules of each group are stored in, by ascending size; they differ if the engine does not support the shape; empty
    in earlier reports. ``compute``: the type of matrix products and the processor; ``None`` in reports of release
    0.1.0. ``exported``: the checkpoints, the recommended one first; empty in reports of that release.
    ``memory_budget``: of weights, as given or as left by ``device``, which is ``None`` without ``fit``.
    """

    model: str
    revision: str | None
    dataset: str
    memory_budget: int
    device: DeviceMemory | None = None
    seed: int
    compute: Compute | None = None
    prune_ratio: float
    pruning: Pruning | None = None
    groups: list[str]
    precisions: Annotated[list[str], BeforeValidator(precision_names)]
    stored: list[list[str]] = Field(default_factory=list)
    widths: list[dict[str, int]]
    predicted_bytes: int
    measurements: list[Measurement]
    exported: list[ExportedFormat] = Field(default_factory=list)
    stage_seconds: dict[StageName, float]
    warnings: list[str]
    files: list[FileRecord]

    @model_validator(mode="before")
    @classmethod
    def _groups_were_layers(cls, values: Any) -> Any:
        """Reports of release 0.1.0 have bits of layers instead of precisions of groups."""
        if not isinstance(values, dict) or "bits" not in values:
            return values
        values = dict(values)
        values["precisions"] = values.pop("bits")
        return {"groups": [f"layers.{layer}" for layer in range(len(values["precisions"]))]} | values

    def measurement(self, variant: str) -> Measurement:
        """The row of ``variant``."""
        return next(row for row in self.measurements if row.variant == variant)
