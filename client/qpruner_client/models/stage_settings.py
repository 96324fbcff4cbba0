"""Bodies of requests. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Literal, Required, TypedDict


class AllocateConfig(TypedDict, total=False):
    """The search for the precision of every group of modules."""

    search: Literal["bayesian", "random", "knapsack", "mutual_information", "uniform"]
    """Search method. bayesian: Bayesian optimisation; random: random allocations; knapsack: the exact knapsack over
    the scores; mutual_information: by mutual information; uniform: the same precision everywhere. The last three
    try one allocation.
    """

    prior: Literal["additive", "none"]
    """Prior mean of Bayesian optimisation. additive: the scores; none: no prior, as in the paper."""

    objective: Literal["divergence", "recovered"]
    """Objective of a trial. divergence: KL divergence from the pruned model, before recovery; recovered: the loss
    after a brief recovery, as in the paper (slow, and without a prior).
    """

    recovery_steps: int
    """Optimiser steps of the brief recovery."""

    finalists: int
    """Number of best trials that are compared again after a brief recovery; with 0 or 1 the best trial is taken as it
    is.
    """

    trials: int
    """Number of allocations to try, including the seeds. The exact knapsack over the scores comes first; with 1, it is
    the result.
    """

    random_seeds: int
    """Number of random allocations among the seeds."""

    candidates: int
    """Candidates per proposal, all within the budget."""

    calibration_sequences: int
    """Sequences per trial."""

    screening_sequences: int
    """Sequences of the screening at the start of a trial; a hopeless trial stops after them."""

    batch: int
    """Number of allocations proposed at once. Proposals of one batch do not learn from each other."""

    workers: int
    """Number of processes that measure the trials of a batch in parallel, at most as many as batch. Each has a model
    in memory and its share of the CPU threads; all share one GPU.
    """

    front_points: int
    """Number of other budgets, from the smallest to the largest, whose best allocations are measured too."""

    precisions: list[str]
    """Precisions that the weights of a layer may have. They must belong to the target. Default: the target's list in
    the guide.
    """

    granularity: Literal["layer", "block", "module"]
    """Unit that gets its own precision: a decoder layer, a block (attention or MLP), or a module."""

    embeddings: bool
    """Also quantize the embeddings and the head if that uses the bytes better."""


class FitConfig(TypedDict, total=False):
    """Device that runs the finished model. The byte budget of the weights is derived from it, in place of
    ``memory_budget``.
    """

    memory: Required[int | str]
    """Memory of the device that the engine may use, as a number of bytes or as "24GB" or "22GiB"."""

    context: int
    """Length of the longest sequence in tokens, prompt and answer together."""

    sequences: int
    """Number of sequences served at the same time."""

    cache_type: Literal["f16", "bf16", "q8_0", "fp8"]
    """Type of the KV cache: f16 or bf16 in every engine, q8_0 in llama.cpp, fp8 in vLLM."""


class PruneConfig(TypedDict, total=False):
    """Settings of pruning: the ratio, the importance of units, and the spread of removal over the layers."""

    ratio: float | None
    """Fraction of the layers' parameters to remove; null chooses it by ratio_choice."""

    ratio_choice: Literal["smallest", "enough_bits", "measured"]
    """How the ratio is chosen if it is not given. smallest: the smallest ratio that meets the budget at the lowest
    precision; enough_bits: up to 0.2 more, until the remaining weights have three bits each; measured: of several
    ratios, the one whose pruned and quantized model is predicted to be nearest to the dense one (takes minutes
    longer).
    """

    criterion: Literal[
        "taylor_first", "taylor_second", "taylor_mixed", "taylor_vector", "magnitude", "wanda", "flap", "random"
    ]
    """How the importance of a unit is measured: from gradients (taylor_…), weights (magnitude), activations (wanda,
    flap), or at random (random).
    """

    layout: Literal["same_ratio", "global", "stock", "depth"]
    """How removal is spread across layers. same_ratio: the same fraction in every unprotected layer; global: by one
    ranking across all layers; stock: one width for all layers, so that stock model classes load the result; depth:
    whole layers.
    """

    remove_layers: int
    """Number of whole layers to remove first, those that change their input least; narrower layers provide the rest.
    """

    compensation: Literal["none", "bias", "refit"]
    """Compensation for the removed units. refit: the remaining weights are fitted by least squares; bias: the mean of
    the removed contribution is added as a bias; none.
    """

    steps: int
    """Number of pruning steps; importance is measured again before each."""

    attention_unit: Literal["kv_group", "query_head", "none"]
    """Unit removed from attention. kv_group: a key-value head with its query heads; query_head: one query head from
    every group; none: attention is not pruned.
    """

    protect_first: int
    """Layers at the input that keep their width."""

    protect_last: int
    """Layers at the output that keep their width."""

    width_multiple: int
    """MLP widths are rounded to a multiple of this."""

    calibration_sequences: int
    """Calibration sequences for measuring importance."""


class ScoreConfig(TypedDict, total=False):
    """How layer importance and (layer, precision) sensitivity are measured."""

    calibration_sequences: int
    """Calibration sequences for the scores."""

    information: Literal["kmeans", "knn", "gaussian"]
    """Estimator of the mutual information between a layer's output and the prediction."""

    clusters: int
    """Number of bins of a layer's output (kmeans)."""

    neighbours: int
    """Number of neighbours with the same prediction (knn)."""

    components: int
    """Principal components of a layer's output (knn, gaussian)."""

    predictions: int
    """Most frequent predicted tokens that are kept separate; all others count as one class."""

    sensitivity: Literal["divergence", "fisher"]
    """How the harm of a precision is measured. fisher: estimated from gradients; divergence: measured as KL
    divergence, which takes several times as long.
    """

    sensitivity_context: Literal["highest", "lowest", "mean"]
    """Precision of the other layers while divergence is measured: highest (16 bits), lowest, or the mean of both."""

    fisher_samples: int
    """Backward passes per sequence (fisher)."""


class QuantizeConfig(TypedDict, total=False):
    """Quantization constants and the adapters' initialisation."""

    double_quant: bool
    """Also quantize the block constants of NF4 to 8 bits."""

    int8: Literal["weight_only", "llm_int8"]
    """Kind of int8 for the bitsandbytes target. weight_only: weights in 8 bits, multiplied in 16; llm_int8:
    LLM.int8(), which also rounds the inputs to 8 bits; same bytes, less exact.
    """

    lora_rank: int
    """Rank of each adapter."""

    lora_alpha: float
    """Scaling numerator of LoRA; the scaling is alpha / rank."""

    rounding: Literal["nearest", "error_feedback"]
    """Rounding of weights. nearest: to the nearest level; error_feedback: later weights compensate for the errors of
    earlier ones on calibration text (GPTQ), with less error in more time.
    """

    damping: float
    """Damping of error feedback: share of the mean of the inputs' mean squares that is added to them. Higher values
    rely less on the correlation of inputs on the calibration text.
    """

    initialisation: Literal["loftq", "qera", "zero"]
    """Initialisation of adapters. loftq: nearest to the quantization error of the weights; qera: nearest to the error
    of the outputs on calibration text; zero.
    """

    loftq_iterations: int
    """Alternations between quantizing a weight and fitting its adapter; 0 starts adapters at zero."""

    rank_allocation: Literal["uniform", "error"]
    """Distribution of adapter ranks. uniform: lora_rank everywhere; error: more rank where it removes more error, in
    the same total bytes.
    """


class FinetuneConfig(TypedDict, total=False):
    """Recovery: training of the quantized model to reduce the loss from compression."""

    recovery: Literal["auto", "adapter", "merge", "scales", "merge+scales"]
    """Parameters that are trained. adapter: a LoRA that ships beside the model and counts in its bytes; merge: a LoRA
    that is merged into the weights, which are then rounded again; scales: norms, biases and block scales as the
    format stores them, with unchanged codes; merge+scales: both in turn; auto: adapter for bitsandbytes, scales for
    gguf and compressed-tensors.
    """

    steps: int
    """Optimiser steps (merge+scales: half for each); 0 skips recovery."""

    batch_size: int
    """Sequences per forward pass."""

    gradient_accumulation: int
    """Forward passes per optimiser step."""

    loss: Literal["auto", "distillation", "cross_entropy"]
    """Training loss. cross_entropy: on the text; distillation: towards the dense model's predictions; auto:
    distillation if the dense model fits into free memory.
    """

    temperature: float
    """Temperature of both distributions in distillation."""

    learning_rate: float
    """Peak learning rate of AdamW for LoRA."""

    scale_learning_rate: float
    """Peak learning rate for scales, norms and biases, relative to their size."""

    schedule: Literal["cosine", "linear", "constant"]
    """Learning rate schedule after warm-up."""

    warmup_steps: int
    """Steps of linear warm-up, at most half of all steps."""

    dropout: float
    """LoRA dropout."""

    max_gradient_norm: float
    """Norm that gradients are clipped to."""

    packing: bool
    """Pack several short examples into one sequence; they do not attend to each other."""

    activation_checkpointing: bool
    """Recompute activations in the backward pass: less memory, a third more time."""

    validation_sequences: int
    """Training examples held back for choosing the best step by their loss; 0 takes the last step."""

    evaluate_every: int
    """Steps between evaluations on the examples held back."""

    patience: int
    """Evaluations without improvement after which training stops; 0 never stops early."""

    checkpoint_every: int
    """Steps between checkpoints, from which an interrupted run resumes."""


class EvaluateConfig(TypedDict, total=False):
    """Measurements of the before/after table."""

    max_tokens: int
    """Held-out tokens for perplexity."""

    max_choices: int
    """Multiple-choice examples to score, if the dataset has any."""

    generated_tokens: int
    """Tokens to generate when speed is measured."""


class ExportConfig(TypedDict, total=False):
    """Checkpoints to write."""

    formats: list[Literal["gguf", "gguf_adapter", "compressed_tensors", "mixed", "merged", "merged_quantized"]]
    """"gguf": one file for llama.cpp and Ollama; "gguf_adapter": the adapter of the GGUF file, for llama.cpp;
    "compressed_tensors": for vLLM, SGLang and transformers; "mixed": every part at its precision, with adapters;
    "merged": one 16-bit model for any tool; "merged_quantized": mixed with the adapters merged in and quantized
    again; the loss is measured. Default: that of the target.
    """

    max_shard_size: int | str
    """Size of the largest weight file of a checkpoint, as a number of bytes or as "5GB"."""
