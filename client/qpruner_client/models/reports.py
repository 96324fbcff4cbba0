"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_client.models.base import Model


class Snippet(Model):
    """Command or code that runs a checkpoint with ``tool``."""

    tool: str
    """The tool that runs it."""

    language: Literal["python", "shell"] | str
    """Language of the text."""

    text: str
    """The commands or code."""


class BytesByPart(Model):
    """Bytes of the loaded model, by part; their sum is compared with the budget."""

    embeddings: int
    """Bytes of embeddings and head."""

    layers: int
    """Bytes of the layers' weights."""

    quantization_constants: int
    """Bytes of scales and other constants of quantized weights."""

    norms: int
    """Bytes of norms and biases."""

    adapters: int
    """Bytes of adapters."""


class DeviceMemory(Model):
    """Shares of a device's memory, in bytes: ``weights + kv_cache + activations + engine == memory``.

    ``weights``: the rest, which is the budget of the run. ``kv_cache``: as allocated by the engine of ``target``
    for ``sequences`` of ``context`` tokens. ``activations``: hidden states, buffers of products, logits.
    ``engine``: process or GPU context, and memory that the engine leaves to others.
    """

    memory: int
    """Memory of the device that the engine may use."""

    weights: int
    """Bytes left for weights."""

    kv_cache: int
    """Bytes of keys and values."""

    activations: int
    """Bytes of hidden states, buffers and logits."""

    engine: int
    """Bytes of the engine itself and of memory that it leaves to others."""

    context: int
    """Tokens of the longest sequence."""

    sequences: int
    """Sequences served at the same time."""

    cache_type: Literal["f16", "bf16", "q8_0", "fp8"] | str
    """Type of keys and values."""

    target: Literal["gguf", "compressed-tensors", "bitsandbytes"] | str
    """The engine's target."""


class Compute(Model):
    """Type of matrix products and processor of a run.

    ``products``: the type of matrix products. ``reason``: why that type, in a sentence. ``processor``: model of the
    CPU or GPU. ``threads``: CPU threads.
    """

    products: Literal["bfloat16", "float16", "float32"] | str
    """Type of matrix products."""

    reason: str
    """Reason for that type, in a sentence."""

    processor: str
    """Model of the CPU or GPU."""

    threads: int
    """CPU threads."""


class RatioTrial(Model):
    """A ratio that was tried within the budget, if ``prune.ratio_choice`` is "measured".

    ``bits``: average per weight; ``bytes``: of the loaded model; ``loss``: KL divergence of its predictions from
    the dense model's, nats per token, before recovery.
    """

    ratio: float
    """The ratio."""

    removed_fraction: float
    """Fraction removed."""

    bits: float
    """Average bits per weight."""

    bytes: int
    """Size in bytes."""

    loss: float
    """Nats per token; lower is better."""


class Pruning(Model):
    """Result of pruning.

    ``ratio``: requested fraction of the layers' parameters; ``removed_fraction``: actual fraction. ``parameters_…``
    count the whole model, ``block_parameters_…`` its decoder layers. ``bytes_…`` are those of the loaded 16-bit
    model. ``removed_layers``: whole layers removed, by their position in the dense model. ``width_multiple``:
    multiple that MLP widths were rounded to; ``None`` if no width was cut, and in old reports. ``ratio_reason``:
    reason for the ratio, in a sentence; empty in old reports. ``ratio_trials``: all measured ratios, if it was
    chosen by measuring.
    """

    ratio: float
    """Requested fraction of the layers' parameters to remove."""

    removed_fraction: float
    """Fraction removed."""

    criterion: str
    """Criterion of importance."""

    layout: str
    """How removal was spread across layers."""

    compensation: str
    """Compensation for removed units."""

    width_multiple: int | None = None
    """Multiple that widths were rounded to."""

    removed_layers: list[int]
    """Whole layers removed, by their position in the dense model."""

    parameters_before: int
    """Parameters of the dense model."""

    parameters_after: int
    """Parameters of the pruned model."""

    block_parameters_before: int
    """Parameters of its layers."""

    block_parameters_after: int
    """Parameters of the pruned model's layers."""

    bytes_before: int
    """Bytes of the dense model in 16 bits."""

    bytes_after: int
    """Bytes of the pruned model in 16 bits."""

    widths: list[dict[str, int]]
    """Widths of each layer."""

    ratio_reason: str = ""
    """Reason for the ratio."""

    ratio_trials: list[RatioTrial] = Field(default_factory=list)
    """Ratios that were measured."""


class Measurement(Model):
    """One row of the table. Every figure was measured, none predicted.

    ``variant``: dense: the original model; pruned; pruned_nf4: pruned with all its layers at NF4; mixed: at the
    chosen precisions with the initial adapters; final: after recovery; and each further format. Exported
    checkpoints are read back from their files. ``label``: name of the row. ``bytes``: storage of all parameters and
    buffers of the loaded model. ``file_bytes``: bytes of its exported files; null for other rows. ``perplexity``:
    exp of the mean negative log-likelihood per held-out token. ``divergence``: mean KL divergence of the
    predictions from the dense model's, nats per token, and ``top1_agreement``: share of tokens for which both
    predict the same next token; on the first ``compared_tokens`` of the held-out text. Null for the dense model,
    and in old reports. ``accuracy``: share of multiple-choice examples whose right choice had the highest
    log-likelihood, with its standard error; null if the dataset has no choices. ``tokens_per_second``: greedy
    generation at batch 1 by ``speed_engine``, the format's own if it is installed, else torch;
    ``prefill_tokens_per_second``: reading a prompt, null in torch. Both are null in old reports.
    """

    variant: str
    """Identifier of the row."""

    label: str = ""
    """Name of the row."""

    parameters: int
    """Parameters of the model."""

    bytes: int
    """Size in bytes."""

    file_bytes: int | None = None
    """Bytes of its files; null if it was not exported."""

    perplexity: float
    """Exponential of the mean loss per held-out token."""

    divergence: float | None = None
    """Mean KL divergence from the dense model, nats per token."""

    top1_agreement: float | None = None
    """Share of tokens for which both models predict the same next token."""

    compared_tokens: int | None = None
    """Held-out tokens of these two measurements."""

    accuracy: float | None = None
    """Share of multiple-choice examples answered right; null without such examples."""

    accuracy_stderr: float | None = None
    """Its standard error."""

    tokens_per_second: float
    """Greedy generation at batch 1."""

    prefill_tokens_per_second: float | None = None
    """Speed of reading a prompt; null in torch."""

    speed_engine: str | None = None
    """Engine that speeds were measured in."""


class ExportedFormat(Model):
    """A checkpoint of the result: its directory or file in the output (``path``), its description, the name of its
    artifact of a job (``artifact``), bytes of its files, and how to run it.
    """

    name: str
    """Name of the format."""

    title: str
    """Description of the format."""

    path: str
    """Path in the output directory of a run."""

    artifact: str
    """Name of the job's artifact."""

    bytes: int
    """Size in bytes."""

    snippets: list[Snippet]
    """Commands or code that run it."""


class FileRecord(Model):
    """One file of a stage or an export: path relative to its directory (POSIX), size in bytes, SHA-256 in hex."""

    path: str
    """Path relative to the folder of the checkpoints."""

    bytes: int
    """Size in bytes."""

    sha256: str
    """SHA-256 of the content, in hex."""


class CompressionReport(Model):
    """The result of a run.

    ``precisions``: chosen precision of each of ``groups``, the modules that share one. ``stored``: precisions that
    the modules of each group are stored in, by ascending size; they differ if the engine does not support the
    shape; empty in earlier reports. ``compute``: the type of matrix products and the processor; ``None`` in reports
    of release 0.1.0. ``exported``: the checkpoints, the recommended one first; empty in reports of that release.
    ``memory_budget``: of weights, as given or as left by ``device``, which is ``None`` without ``fit``.
    """

    model: str
    """Model as given in the request."""

    revision: str | None
    """Commit of the hub; null for other models."""

    dataset: str
    """Dataset as given in the request."""

    memory_budget: int
    """Bytes of the loaded model's weights."""

    device: DeviceMemory | None = None
    """Device of `fit`, if given."""

    seed: int
    """Random seed."""

    compute: Compute | None = None
    """Type of matrix products and processor; null in old reports."""

    prune_ratio: float
    """Requested fraction of the layers' parameters to remove."""

    pruning: Pruning | None = None
    """Result of pruning."""

    groups: list[str]
    """Units that each have their own precision."""

    precisions: list[str]
    """Precision of each of `groups`, in order."""

    stored: list[list[str]] | None = None
    """Precisions that modules are stored in."""

    widths: list[dict[str, int]]
    """Widths of each layer after pruning."""

    predicted_bytes: int
    """Predicted bytes."""

    measurements: list[Measurement]
    """The before/after table."""

    exported: list[ExportedFormat] | None = None
    """The checkpoints, the recommended one first."""

    stage_seconds: dict[str, float]
    """Seconds of each stage."""

    warnings: list[str]
    """Warnings of the run."""

    files: list[FileRecord]
    """Files of the checkpoints."""


class Estimate(Model):
    """Prediction of a run, from shapes alone.

    ``stage_seconds``: expected seconds of each stage, empty while the speed of the machine is unknown; ``notes``:
    assumptions of times and bytes. ``memory_budget``, ``smallest_feasible_bytes``: of weights. ``device``: shares
    of the device's memory, if the run has ``fit``; ``smallest_feasible_memory``: of such a device, in the same use.
    """

    feasible: bool
    """Whether the budget is feasible."""

    memory_budget: int
    """Bytes of the loaded model's weights."""

    device: DeviceMemory | None = None
    """Device of `fit`, if given."""

    smallest_feasible_memory: int | None = None
    """Smallest feasible memory of such a device."""

    dense_bytes: int
    """Bytes of the dense model."""

    smallest_feasible_bytes: int
    """Smallest feasible budget."""

    prune_ratio: float
    """Fraction of the layers' parameters to remove."""

    predicted_bytes: BytesByPart
    """Bytes by part, with the lowest precision everywhere."""

    predicted_total_bytes: int
    """Sum of all parts."""

    stage_seconds: dict[str, float]
    """Expected seconds of each stage; empty while no machine's speed is known."""

    notes: list[str] = Field(default_factory=list)
    """Assumptions behind bytes and times."""
