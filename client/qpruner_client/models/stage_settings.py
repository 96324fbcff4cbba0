"""Bodies of requests. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Literal, Required, TypedDict


class AllocateConfig(TypedDict, total=False):
    """The search for the precision of every group of modules."""

    search: Literal["bayesian", "random", "knapsack", "mutual_information", "uniform"]
    """How precisions are chosen: by Bayesian optimisation, or without one: at random, by the exact knapsack over the
    scores, by mutual information, or the same for all. The last three try one allocation.
    """

    prior: Literal["additive", "none"]
    """What Bayesian optimisation knows before its first trial: what each precision costs by the scores (additive), or
    nothing, as in the paper (none).
    """

    objective: Literal["divergence", "recovered"]
    """What a trial is judged by: how far its predictions are from the pruned model's, before recovery (divergence), or
    its loss after a brief recovery, as in the paper (recovered; slow, and with prior none).
    """

    recovery_steps: int
    """Steps of a brief recovery."""

    finalists: int
    """The best trials that are compared again, after a brief recovery; 0 or 1: the best one is taken."""

    trials: int
    """Allocations to try, seeds included."""

    random_seeds: int
    """Random allocations among the seeds."""

    candidates: int
    """Budget-keeping candidates per proposal."""

    calibration_sequences: int
    """Sequences of text a trial is measured on."""

    screening_sequences: int
    """The first of these sequences; a trial that is hopeless on them ends there."""

    batch: int
    """Allocations asked for at once: those of a batch do not learn of each other."""

    workers: int
    """Processes that measure the trials of a batch at once, each with a model in memory and its share of the CPU's
    threads; a GPU is shared by all of them. At most as many as batch.
    """

    front_points: int
    """Other budgets, from the smallest to the largest, whose best allocations are measured too."""

    precisions: list[str]
    """Precisions that the weights of a layer may have, by name; those of the target. Default: at most five of them
    around the budget.
    """

    granularity: Literal["layer", "block", "module"]
    """Unit that gets its own precision: a layer, its attention and its MLP, or every module."""

    embeddings: bool
    """Quantize the embeddings and the head too, where that is the better use of bytes."""


class EvaluateConfig(TypedDict, total=False):
    """What the before/after table is measured on."""

    max_tokens: int
    """Held-out tokens that perplexity is measured on."""

    max_choices: int
    """Multiple-choice examples scored, where the dataset has them."""

    generated_tokens: int
    """Tokens generated to measure speed."""


class ExportConfig(TypedDict, total=False):
    """Which checkpoints are written."""

    formats: list[Literal["gguf", "gguf_adapter", "compressed_tensors", "mixed", "merged", "merged_quantized"]]
    """"gguf": one file for llama.cpp and Ollama; "gguf_adapter": the adapter that goes with the GGUF file, for
    llama.cpp; "compressed_tensors": for vLLM, SGLang and transformers; "mixed": every part at its precision, with
    adapters; "merged": one 16-bit model for any tool; "merged_quantized": mixed with the adapters merged in and
    quantized again, at a loss that is measured. Default: that of the target.
    """

    max_shard_size: int | str
    """Bytes of the largest weight file of a checkpoint, such as "5GB"."""


class FinetuneConfig(TypedDict, total=False):
    """Recovery by training on the quantized model."""

    recovery: Literal["auto"] | Literal["adapter", "merge", "scales", "merge+scales"]
    """What is trained. adapter: LoRA that ships beside the model, and counts in its bytes; merge: LoRA that is merged
    into the weights, which are then rounded again; scales: norms, biases and block scales as the format stores
    them, codes unchanged; merge+scales: one after the other; auto: adapter for bitsandbytes, scales for gguf and
    compressed-tensors.
    """

    steps: int
    """Optimiser steps, of merge+scales half for each; 0 skips recovery."""

    batch_size: int
    """Sequences per forward pass."""

    gradient_accumulation: int
    """Forward passes per optimiser step."""

    loss: Literal["auto", "distillation", "cross_entropy"]
    """What is learned: the text (cross_entropy), or the dense model's predictions on it (distillation); auto distils
    where the dense model fits into free memory.
    """

    temperature: float
    """Softens both predictions in distillation."""

    learning_rate: float
    """Peak learning rate of AdamW for LoRA."""

    scale_learning_rate: float
    """Peak learning rate for scales, norms and biases, relative to their size."""

    schedule: Literal["cosine", "linear", "constant"]
    """How the learning rate goes on after warm-up."""

    warmup_steps: int
    """Steps of linear warm-up, at most half of all."""

    dropout: float
    """LoRA dropout."""

    max_gradient_norm: float
    """Gradients are clipped to this norm."""

    packing: bool
    """Several short examples in one sequence, none of which sees the others."""

    activation_checkpointing: bool
    """Compute activations twice rather than keep them: less memory, a third more time."""

    validation_sequences: int
    """Examples of the training side kept back to choose the best step; 0: the last."""

    evaluate_every: int
    """Steps between evaluations on what was kept back."""

    patience: int
    """Stop after so many evaluations in a row without a better one; 0 never does."""

    checkpoint_every: int
    """Steps between savings, from which a run that was killed goes on."""


class FitConfig(TypedDict, total=False):
    """What the finished model is to run in. The bytes of weights follow from it, as ``memory_budget`` gives them."""

    memory: Required[int | str]
    """Bytes of memory of the device that the engine may use, as a number or as "24GB" or "22GiB"."""

    context: int
    """Tokens of the longest sequence, prompt and answer together."""

    sequences: int
    """Sequences that are served at the same time."""

    cache_type: Literal["f16", "bf16", "q8_0", "fp8"]
    """Type of the keys and values in the cache: f16 or bf16 in every engine, q8_0 in llama.cpp, fp8 in vLLM."""

    device: Literal["cpu", "gpu"]
    """Where the engine runs: on a gpu its context takes memory of the card, on a cpu the process itself takes main
    memory.
    """


class PruneConfig(TypedDict, total=False):
    """What to remove, how its importance is measured, and how the removal is spread over the layers."""

    ratio: float | None
    """Fraction of the blocks' parameters to remove; null finds the smallest that meets the budget."""

    ratio_choice: Literal["smallest", "measured"]
    """How a ratio that is not given is found: the smallest that meets the budget at the lowest precision, or of
    several the one whose pruned and quantized model is nearest to the dense one (minutes more).
    """

    criterion: Literal[
        "taylor_first", "taylor_second", "taylor_mixed", "taylor_vector", "magnitude", "wanda", "flap", "random"
    ]
    """Importance of a unit: from gradients (taylor_…), weights (magnitude), activations (wanda, flap) or chance
    (random).
    """

    layout: Literal["same_ratio", "global", "stock", "depth"]
    """Where it is removed: the same ratio in every unprotected layer, by one ranking over all of them (global), one
    width for all layers (stock), or whole layers (depth).
    """

    remove_layers: int
    """Whole layers removed first, those that change their input least; width makes up the rest."""

    compensation: Literal["none", "bias", "refit"]
    """What makes up for the removed units: the kept weights fitted anew by least squares (refit), their mean as a bias
    (bias), or nothing (none).
    """

    steps: int
    """Prune in so many steps, measuring importance anew in each."""

    attention_unit: Literal["kv_group", "query_head", "none"]
    """What attention loses: whole key-value groups, one query head from every group, or nothing."""

    protect_first: int
    """Blocks at the input that keep their width."""

    protect_last: int
    """Blocks at the output that keep their width."""

    width_multiple: int
    """MLP widths are rounded to a multiple of this."""

    calibration_sequences: int
    """Sequences of calibration text for importance."""


class ScoreConfig(TypedDict, total=False):
    """How layer importance and (layer, precision) sensitivity are measured."""

    calibration_sequences: int
    """Sequences of calibration text."""

    information: Literal["kmeans", "knn", "gaussian"]
    """Estimator of the mutual information of a layer's output and the prediction."""

    clusters: int
    """Bins of a layer's output, for kmeans."""

    neighbours: int
    """Neighbours of the same prediction, for knn."""

    components: int
    """Principal components of a layer's output, for knn and gaussian."""

    predictions: int
    """Most frequent predicted tokens told apart; others are one."""

    sensitivity: Literal["divergence", "fisher"]
    """What a precision does: estimated from gradients (fisher), or measured by KL divergence, which takes several
    times as long.
    """

    sensitivity_context: Literal["highest", "lowest", "mean"]
    """Precision of the other layers while divergence is measured: 16 bits, the lowest, or both in turn."""

    fisher_samples: int
    """Backward passes for every sequence, for fisher."""


class QuantizeConfig(TypedDict, total=False):
    """Quantization constants and the adapters' initialisation."""

    double_quant: bool
    """Quantize NF4's block constants to 8 bits as well."""

    int8: Literal["weight_only", "llm_int8"]
    """int8 of the bitsandbytes target: weights that are multiplied in 16 bits, or LLM.int8(), which rounds what they
    are multiplied with to 8 bits as well: the same bytes, less exact.
    """

    humming_kernels: bool
    """Allow int2_g64, int3_g64, int5_g64, int6_g64 and int7_g64 (compressed-tensors). vLLM runs them with the Humming
    kernels alone: on NVIDIA GPUs from sm75, with that package installed.
    """

    lora_rank: int
    """Rank of every adapter."""

    lora_alpha: float
    """LoRA scaling is alpha / rank."""

    rounding: Literal["nearest", "error_feedback"]
    """Each weight to the nearest level, or so that weights make up for the errors of those before them on calibration
    text (GPTQ): the same bytes, less error, more time.
    """

    initialisation: Literal["loftq", "qera", "zero"]
    """What adapters begin as: nearest to what quantization took of the weights (loftq), or of the outputs on
    calibration text (qera), or nothing (zero).
    """

    loftq_iterations: int
    """Times that a weight is quantized and its adapter fitted; 0 starts them at zero."""

    rank_allocation: Literal["uniform", "error"]
    """All adapters have lora_rank, or each what takes away the most error, in as many bytes together."""
