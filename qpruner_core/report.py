"""What a run reports: the table of before and after, and an estimate before any work."""

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

    ``variant``: the model as it came (dense), pruned, with all its layers at NF4 (pruned_nf4), at the precisions found
    with its adapters as they begin (mixed), after recovery (final), and each further format; what was exported was read
    back from its files. ``label``: what the row is called.
    ``bytes``: storage of all parameters and buffers of the loaded model. ``file_bytes``: of what was exported; null for
    other rows. ``perplexity``: exp of the mean negative log-likelihood per held-out token. ``divergence``: mean KL
    divergence of the predictions from the dense model's, nats per token, and ``top1_agreement``: share of tokens for
    which both predict the same one first; on the first ``compared_tokens`` of the held-out text. Null for the dense
    model, and in reports that lack them. ``accuracy``: share of multiple-choice examples whose right choice
    had the highest log-likelihood, with its standard error; null where the dataset has no choices.
    ``tokens_per_second``: greedy generation at batch 1 by ``speed_engine``, the format's own where it is installed,
    else torch; ``prefill_tokens_per_second``: reading a prompt, null in torch. Both are null in reports that lack them.
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
    """The few lines that run a checkpoint with ``tool``."""

    tool: str
    language: Literal["python", "shell"]
    text: str


class ExportedFormat(StrictModel):
    """A checkpoint of the result: its directory or file in the output (``path``), what it is, the name that a job hands
    it out under (``artifact``), bytes of its files, and how it is run."""

    name: str
    title: str
    path: str
    artifact: str
    bytes: int
    snippets: tuple[Snippet, ...]


class RatioTrial(StrictModel):
    """A ratio that was tried within the budget, where ``prune.ratio_choice`` is "measured". ``bits``: of a weight, on
    average; ``bytes``: of the loaded model; ``loss``: KL divergence of its predictions from the dense model's, nats per
    token, before recovery."""

    ratio: float
    removed_fraction: float
    bits: float
    bytes: int
    loss: float


class Pruning(StrictModel):
    """What pruning removed.

    ``ratio``: the fraction of the layers' parameters that was asked for; ``removed_fraction``: what came of it.
    ``parameters_…`` count the whole model, ``block_parameters_…`` its decoder layers. ``bytes_…`` are those of the
    loaded 16-bit model. ``removed_layers``: whole layers that are gone, by their place in the dense model.
    ``width_multiple``: what MLP widths were rounded to; ``None`` where no width was cut, and in reports that lack it.
    ``ratio_reason``: how the ratio came about, in a sentence; empty in reports that lack it. ``ratio_trials``: where it
    was chosen by measuring, all that were tried.
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
    """Bytes of the loaded model, by part; their sum is the prediction that the budget is held against."""

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
    """What the memory of a device goes to, in bytes: ``weights + kv_cache + activations + engine == memory``.

    ``weights``: what is left for them, the budget of the run. ``kv_cache``: as the engine of ``target`` allocates it
    for ``sequences`` of ``context`` tokens. ``activations``: hidden states, buffers of products, logits. ``engine``:
    process or GPU context, and what the engine leaves to others.
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
    """What a run would do, worked out from shapes alone.

    ``stage_seconds``: expected seconds of each stage, empty while the speed of the machine is not known; ``notes``:
    what they and the bytes rest on. ``memory_budget``, ``smallest_feasible_bytes``: of weights. ``device``: where the
    run asks to ``fit`` one, how its memory is shared; ``smallest_feasible_memory``: of such a device, in the same use.
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

    ``precisions``: of each of ``groups``, the modules that share one, as the search chose it. ``stored``: those that
    the modules of each group are stored in, by rising size: others where the engine cannot hold their shapes in that;
    empty in earlier reports. ``compute``: the type of matrix products and the processor; ``None`` in reports of release
    0.1.0. ``exported``: the checkpoints, the one to take first; empty in reports of that release.
    ``memory_budget``: of weights, as given or as left by ``device``, which is ``None`` where no ``fit`` was asked for.
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
        """Reports of release 0.1.0 have bits, and name no groups: the bits are of layers."""
        if not isinstance(values, dict) or "bits" not in values:
            return values
        values = dict(values)
        values["precisions"] = values.pop("bits")
        return {"groups": [f"layers.{layer}" for layer in range(len(values["precisions"]))]} | values

    def measurement(self, variant: str) -> Measurement:
        """The row of ``variant``."""
        return next(row for row in self.measurements if row.variant == variant)
