"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_client.models.base import Model


class Snippet(Model):
    """The few lines that run a checkpoint with ``tool``."""

    tool: str
    language: Literal["python", "shell"] | str
    text: str


class BytesByPart(Model):
    """Bytes of the loaded model, by part; their sum is the prediction that the budget is held against."""

    embeddings: int
    layers: int
    quantization_constants: int
    norms: int
    adapters: int


class DeviceMemory(Model):
    """What the memory of a device goes to, in bytes: ``weights + kv_cache + activations + engine == memory``.

    ``weights``: what is left for them, the budget of the run. ``kv_cache``: as the engine of ``target`` allocates
    it for ``sequences`` of ``context`` tokens. ``activations``: hidden states, buffers of products, logits.
    ``engine``: process or GPU context, and what the engine leaves to others.
    """

    memory: int
    weights: int
    kv_cache: int
    activations: int
    engine: int
    context: int
    sequences: int
    cache_type: Literal["f16", "bf16", "q8_0", "fp8"] | str
    target: Literal["gguf", "compressed-tensors", "bitsandbytes"] | str


class Compute(Model):
    """What a run computes with.

    ``products``: the type of matrix products. ``reason``: why that type, in a sentence. ``processor``: model of the
    CPU or GPU. ``threads``: CPU threads.
    """

    products: Literal["bfloat16", "float16", "float32"] | str
    reason: str
    processor: str
    threads: int


class RatioTrial(Model):
    """A ratio that was tried within the budget, where ``prune.ratio_choice`` is "measured". ``bits``: of a weight, on
    average; ``bytes``: of the loaded model; ``loss``: KL divergence of its predictions from the dense model's, nats
    per token, before recovery.
    """

    ratio: float
    removed_fraction: float
    bits: float
    bytes: int
    loss: float


class Pruning(Model):
    """What pruning removed.

    ``ratio``: the fraction of the layers' parameters that was asked for; ``removed_fraction``: what came of it.
    ``parameters_…`` count the whole model, ``block_parameters_…`` its decoder layers. ``bytes_…`` are those of the
    loaded 16-bit model. ``removed_layers``: whole layers that are gone, by their place in the dense model.
    ``width_multiple``: what MLP widths were rounded to; ``None`` where no width was cut, and in reports that lack
    it. ``ratio_reason``: how the ratio came about, in a sentence; empty in reports that lack it. ``ratio_trials``:
    where it was chosen by measuring, all that were tried.
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
    ratio_trials: list[RatioTrial] = Field(default_factory=list)


class Measurement(Model):
    """One row of the table. Every figure was measured, none predicted.

    ``variant``: the model as it came (dense), pruned, with all its layers at NF4 (pruned_nf4), at the precisions
    found with its adapters as they begin (mixed), after recovery (final), and each further format; what was
    exported was read back from its files. ``label``: what the row is called. ``bytes``: storage of all parameters
    and buffers of the loaded model. ``file_bytes``: of what was exported; null for other rows. ``perplexity``: exp
    of the mean negative log-likelihood per held-out token. ``divergence``: mean KL divergence of the predictions
    from the dense model's, nats per token, and ``top1_agreement``: share of tokens for which both predict the same
    one first; on the first ``compared_tokens`` of the held-out text. Null for the dense model, and in reports that
    lack them. ``accuracy``: share of multiple-choice examples whose right choice had the highest log-likelihood,
    with its standard error; null where the dataset has no choices. ``tokens_per_second``: greedy generation at
    batch 1 by ``speed_engine``, the format's own where it is installed, else torch; ``prefill_tokens_per_second``:
    reading a prompt, null in torch. Both are null in reports that lack them.
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


class ExportedFormat(Model):
    """A checkpoint of the result: its directory or file in the output (``path``), what it is, the name that a job
    hands it out under (``artifact``), bytes of its files, and how it is run.
    """

    name: str
    title: str
    path: str
    artifact: str
    bytes: int
    snippets: list[Snippet]


class FileRecord(Model):
    """One file of a stage or an export: path relative to its directory (POSIX), size in bytes, SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str


class CompressionReport(Model):
    """The result of a run.

    ``precisions``: of each of ``groups``, the modules that share one. ``compute``: the type of matrix products and
    the processor; ``None`` in reports of release 0.1.0. ``exported``: the checkpoints, the one to take first; empty
    in reports of that release. ``memory_budget``: of weights, as given or as left by ``device``, which is ``None``
    where no ``fit`` was asked for.
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
    precisions: list[str]
    widths: list[dict[str, int]]
    predicted_bytes: int
    measurements: list[Measurement]
    exported: list[ExportedFormat] | None = None
    stage_seconds: dict[str, float]
    warnings: list[str]
    files: list[FileRecord]


class Estimate(Model):
    """What a run would do, worked out from shapes alone.

    ``stage_seconds``: expected seconds of each stage, empty while the speed of the machine is not known; ``notes``:
    what they and the bytes rest on. ``memory_budget``, ``smallest_feasible_bytes``: of weights. ``device``: where
    the run asks to ``fit`` one, how its memory is shared; ``smallest_feasible_memory``: of such a device, in the
    same use.
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
    stage_seconds: dict[str, float]
    notes: list[str] = Field(default_factory=list)
