"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpruner_client.models.base import Model


class Snippet(Model):
    """The few lines that run a checkpoint with ``tool``."""

    tool: str
    """The tool that runs it."""

    language: Literal["python", "shell"] | str
    """Of the text."""

    text: str
    """The lines."""


class BytesByPart(Model):
    """Bytes of the loaded model, by part; their sum is the prediction that the budget is held against."""

    embeddings: int
    """Of embeddings and head."""

    layers: int
    """Of the layers' weights."""

    quantization_constants: int
    """Of scales and other constants of quantized weights."""

    norms: int
    """Of norms and biases."""

    adapters: int
    """Of adapters."""


class DeviceMemory(Model):
    """What the memory of a device goes to, in bytes: ``weights + kv_cache + activations + engine == memory``.

    ``weights``: what is left for them, the budget of the run. ``kv_cache``: as the engine of ``target`` allocates
    it for ``sequences`` of ``context`` tokens. ``activations``: hidden states, buffers of products, logits.
    ``engine``: process or GPU context, and what the engine leaves to others.
    """

    memory: int
    """Memory of the device that the engine may use."""

    weights: int
    """Bytes that are left for weights."""

    kv_cache: int
    """Bytes of keys and values."""

    activations: int
    """Bytes of hidden states, buffers and logits."""

    engine: int
    """Bytes of the engine itself and of what it leaves to others."""

    context: int
    """Tokens of the longest sequence."""

    sequences: int
    """Sequences served at the same time."""

    cache_type: Literal["f16", "bf16", "q8_0", "fp8"] | str
    """Type of keys and values."""

    target: Literal["gguf", "compressed-tensors", "bitsandbytes"] | str
    """The engine's target."""


class Compute(Model):
    """What a run computes with.

    ``products``: the type of matrix products. ``reason``: why that type, in a sentence. ``processor``: model of the
    CPU or GPU. ``threads``: CPU threads.
    """

    products: Literal["bfloat16", "float16", "float32"] | str
    """Type of matrix products."""

    reason: str
    """Why that type, in a sentence."""

    processor: str
    """Model of the CPU or GPU."""

    threads: int
    """CPU threads."""


class RatioTrial(Model):
    """A ratio that was tried within the budget, where ``prune.ratio_choice`` is "measured". ``bits``: of a weight, on
    average; ``bytes``: of the loaded model; ``loss``: KL divergence of its predictions from the dense model's, nats
    per token, before recovery.
    """

    ratio: float
    """The ratio."""

    removed_fraction: float
    """Fraction removed."""

    bits: float
    """Bits of a weight, on average."""

    bytes: int
    """Size in bytes."""

    loss: float
    """Nats per token; less is better."""


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
    """Fraction of the layers' parameters that was to be removed."""

    removed_fraction: float
    """Fraction removed."""

    criterion: str
    """Importance of a unit."""

    layout: str
    """Where units were removed."""

    compensation: str
    """What makes up for removed units."""

    width_multiple: int | None = None
    """Multiple that widths were rounded to."""

    removed_layers: list[int]
    """Whole layers removed, by their place in the dense model."""

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
    """How the ratio came about."""

    ratio_trials: list[RatioTrial] = Field(default_factory=list)
    """Ratios that were measured."""


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
    """Identifier of the row."""

    label: str = ""
    """Name of the row."""

    parameters: int
    """Parameters of the model."""

    bytes: int
    """Size in bytes."""

    file_bytes: int | None = None
    """Bytes of its files; null for what was not exported."""

    perplexity: float
    """Exponential of the mean loss per held-out token."""

    divergence: float | None = None
    """Mean KL divergence from the dense model, nats per token."""

    top1_agreement: float | None = None
    """Share of tokens for which both predict the same one first."""

    compared_tokens: int | None = None
    """Held-out tokens that these two are measured on."""

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
    """A checkpoint of the result: its directory or file in the output (``path``), what it is, the name that a job
    hands it out under (``artifact``), bytes of its files, and how it is run.
    """

    name: str
    """Name of the format."""

    title: str
    """What it is."""

    path: str
    """Its place in the output of a run."""

    artifact: str
    """Name of the file that the job hands out."""

    bytes: int
    """Size in bytes."""

    snippets: list[Snippet]
    """The lines that run it."""


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

    ``precisions``: of each of ``groups``, the modules that share one, as the search chose it. ``stored``: those
    that the modules of each group are stored in, by rising size: others where the engine cannot hold their shapes
    in that; empty in earlier reports. ``compute``: the type of matrix products and the processor; ``None`` in
    reports of release 0.1.0. ``exported``: the checkpoints, the one to take first; empty in reports of that
    release. ``memory_budget``: of weights, as given or as left by ``device``, which is ``None`` where no ``fit``
    was asked for.
    """

    model: str
    """The model as it was named."""

    revision: str | None
    """Commit of the hub; null for other models."""

    dataset: str
    """The dataset as it was named."""

    memory_budget: int
    """Bytes of the loaded model's weights."""

    device: DeviceMemory | None = None
    """The device of `fit`, where one was given."""

    seed: int
    """Random seed."""

    compute: Compute | None = None
    """Type of matrix products and processor; null in old reports."""

    prune_ratio: float
    """Fraction of the layers' parameters that was to be removed."""

    pruning: Pruning | None = None
    """What pruning removed."""

    groups: list[str]
    """Units with a precision of their own."""

    precisions: list[str]
    """Precision of each of `groups`, in their order."""

    stored: list[list[str]] | None = None
    """Formats that modules are stored in."""

    widths: list[dict[str, int]]
    """Widths of each layer after pruning."""

    predicted_bytes: int
    """Bytes that were predicted."""

    measurements: list[Measurement]
    """The table of before and after."""

    exported: list[ExportedFormat] | None = None
    """The checkpoints, the one to take first."""

    stage_seconds: dict[str, float]
    """Seconds of each stage."""

    warnings: list[str]
    """What to know of the run."""

    files: list[FileRecord]
    """Files of the checkpoints."""


class Estimate(Model):
    """What a run would do, worked out from shapes alone.

    ``stage_seconds``: expected seconds of each stage, empty while the speed of the machine is not known; ``notes``:
    what they and the bytes rest on. ``memory_budget``, ``smallest_feasible_bytes``: of weights. ``device``: where
    the run asks to ``fit`` one, how its memory is shared; ``smallest_feasible_memory``: of such a device, in the
    same use.
    """

    feasible: bool
    """Whether the budget can be met."""

    memory_budget: int
    """Bytes of the loaded model's weights."""

    device: DeviceMemory | None = None
    """The device of `fit`, where one was given."""

    smallest_feasible_memory: int | None = None
    """Smallest memory of such a device that would do."""

    dense_bytes: int
    """Bytes of the model as it is."""

    smallest_feasible_bytes: int
    """Smallest budget that can be met."""

    prune_ratio: float
    """Fraction of the layers' parameters to remove."""

    predicted_bytes: BytesByPart
    """Bytes by part, at the lowest precision everywhere."""

    predicted_total_bytes: int
    """Sum of all parts."""

    stage_seconds: dict[str, float]
    """Expected seconds of each stage; empty while no machine's speed is known."""

    notes: list[str] = Field(default_factory=list)
    """What bytes and times rest on."""
