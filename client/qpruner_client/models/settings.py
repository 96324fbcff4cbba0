"""Bodies of requests. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal, Required, TypedDict

from qpruner_client.models.stage_settings import (
    AllocateConfig,
    EvaluateConfig,
    ExportConfig,
    FinetuneConfig,
    FitConfig,
    PruneConfig,
    QuantizeConfig,
    ScoreConfig,
)


class Expected(TypedDict, total=False):
    """Digests and choices that a recipe fixes in addition to settings."""

    model_digest: str | None
    """Digest of the model's files. A run with other files is rejected."""

    dataset_sha256: str | None
    """SHA-256 of the dataset. A run with another dataset is rejected."""

    recovery_loss: Literal["distillation", "cross_entropy"] | None
    """Choice of `finetune.loss` when it is `auto`, which otherwise depends on free memory."""


class JobWebhook(TypedDict, total=False):
    """A webhook for the events of one job."""

    url: Required[str]
    """URL that events are sent to, by POST."""

    events: list[
        Literal[
            "job.queued",
            "job.started",
            "job.stage_started",
            "job.stage_finished",
            "job.warning",
            "job.attempt_lost",
            "job.cancel_requested",
            "job.cancelled",
            "job.failed",
            "job.succeeded",
            "job.retried",
        ]
    ]
    """Events to send. Default: those that end a job."""


class EstimateRequest(TypedDict, total=False):
    """A body of `POST /jobs`, in which the dataset is optional."""

    recipe: dict[str, Any]
    """The content of a `recipe.json` to reproduce; it replaces `model`, `dataset` and every other setting. Values
    given beside it take precedence, such as the id of another upload of the same `dataset`. A model or dataset with
    other content is rejected.
    """

    model: str
    """A local directory or .gguf file, a hub id ("org/name@revision" or "org/name:file.gguf"), the id of an upload
    ("md_…"), or "demo:smollm2-135m-instruct".
    """

    dataset: str
    """As for `POST /jobs`. Without it, it is not checked, and times assume enough text."""

    fit: FitConfig | None
    """Device that the model must fit into together with its KV cache, activations and engine; the memory budget is
    derived from it. Give exactly one of fit and memory_budget.
    """

    memory_budget: int | str | None
    """Bytes of the weights of the loaded model, as a number or as "130MB" or "6GiB". Give exactly one of memory_budget
    and fit.
    """

    seed: int
    """Random seed."""

    sequence_length: int
    """Tokens per sequence, in every stage."""

    template_date: date | str
    """Date that is passed to chat templates that print today's date."""

    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"]
    """Type of matrix products. auto: on a CPU the faster one of bfloat16 and float32, measured once per machine; on a
    GPU bfloat16, or float16 on a card without bfloat16. Weights stay in 16 bits in memory.
    """

    target: Literal["gguf", "compressed-tensors", "bitsandbytes"]
    """Engine that will run the result. It determines the allowed precisions. gguf: llama.cpp and Ollama;
    compressed-tensors: vLLM, SGLang and transformers; bitsandbytes: transformers with PEFT and this package.
    """

    runs_on: Literal["gpu", "gpu+humming", "cpu"]
    """Hardware that the engine computes on. With compressed-tensors it restricts precisions to those that vLLM has
    kernels for: gpu: any NVIDIA GPU; gpu+humming: an NVIDIA GPU from sm75 with the package Humming, which adds 2,
    3, 5, 6 and 7 bits; cpu: 16 bits, fp8, 8-bit weights with 8-bit inputs and, with AVX-512, 4 bits. The engine's
    share of fit.memory also depends on it.
    """

    preset: Literal["llm-pruner", "qpruner1", "qpruner2", "qpruner3", "best"]
    """Starting values; anything set by name overrides them. llm-pruner and qpruner1 to qpruner3 are the papers'
    settings, best is ours.
    """

    expected: Expected
    """Digests of model and dataset, and choices, that a recipe fixes in addition to settings."""

    prune: PruneConfig
    """Settings of pruning."""

    score: ScoreConfig
    """Settings of scoring."""

    allocate: AllocateConfig
    """Settings of the search."""

    quantize: QuantizeConfig
    """Settings of quantization."""

    finetune: FinetuneConfig
    """Settings of recovery."""

    evaluate: EvaluateConfig
    """Settings of the evaluation."""

    export: ExportConfig
    """Settings of the export."""

    labels: dict[str, Any]
    """Your own names and values; `GET /jobs` filters by them."""

    priority: int
    """Order among your own waiting jobs: the highest first."""

    deadline: int | str | None
    """Time limit of the job from its first start to its end, in seconds or such as `90m` or `1d 12h`. The operator
    sets default and maximum.
    """

    webhooks: list[JobWebhook]
    """Addresses that receive events of this job, as if added by `POST /webhooks`."""


class FileRequest(TypedDict, total=False):
    """A file to send."""

    name: Required[str]
    """Name of the file."""

    bytes: Required[int]
    """Size in bytes."""

    sha256: Required[str]
    """SHA-256 of the content, in lower-case hex."""


class JobRequest(TypedDict, total=False):
    """A run: its settings, or a recipe; and labels for finding it. Without a recipe, `model` and `dataset` are
    required.
    """

    recipe: dict[str, Any]
    """The content of a `recipe.json` to reproduce; it replaces `model`, `dataset` and every other setting. Values
    given beside it take precedence, such as the id of another upload of the same `dataset`. A model or dataset with
    other content is rejected.
    """

    model: str
    """A local directory or .gguf file, a hub id ("org/name@revision" or "org/name:file.gguf"), the id of an upload
    ("md_…"), or "demo:smollm2-135m-instruct".
    """

    dataset: str
    """A .jsonl, .json, .csv, .tsv, .txt or .parquet file (text also as .gz or .zst), a hub dataset id
    ("org/name@revision"), or the id of an upload ("ds_…").
    """

    fit: FitConfig | None
    """Device that the model must fit into together with its KV cache, activations and engine; the memory budget is
    derived from it. Give exactly one of fit and memory_budget.
    """

    memory_budget: int | str | None
    """Bytes of the weights of the loaded model, as a number or as "130MB" or "6GiB". Give exactly one of memory_budget
    and fit.
    """

    seed: int
    """Random seed."""

    sequence_length: int
    """Tokens per sequence, in every stage."""

    template_date: date | str
    """Date that is passed to chat templates that print today's date."""

    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"]
    """Type of matrix products. auto: on a CPU the faster one of bfloat16 and float32, measured once per machine; on a
    GPU bfloat16, or float16 on a card without bfloat16. Weights stay in 16 bits in memory.
    """

    target: Literal["gguf", "compressed-tensors", "bitsandbytes"]
    """Engine that will run the result. It determines the allowed precisions. gguf: llama.cpp and Ollama;
    compressed-tensors: vLLM, SGLang and transformers; bitsandbytes: transformers with PEFT and this package.
    """

    runs_on: Literal["gpu", "gpu+humming", "cpu"]
    """Hardware that the engine computes on. With compressed-tensors it restricts precisions to those that vLLM has
    kernels for: gpu: any NVIDIA GPU; gpu+humming: an NVIDIA GPU from sm75 with the package Humming, which adds 2,
    3, 5, 6 and 7 bits; cpu: 16 bits, fp8, 8-bit weights with 8-bit inputs and, with AVX-512, 4 bits. The engine's
    share of fit.memory also depends on it.
    """

    preset: Literal["llm-pruner", "qpruner1", "qpruner2", "qpruner3", "best"]
    """Starting values; anything set by name overrides them. llm-pruner and qpruner1 to qpruner3 are the papers'
    settings, best is ours.
    """

    expected: Expected
    """Digests of model and dataset, and choices, that a recipe fixes in addition to settings."""

    prune: PruneConfig
    """Settings of pruning."""

    score: ScoreConfig
    """Settings of scoring."""

    allocate: AllocateConfig
    """Settings of the search."""

    quantize: QuantizeConfig
    """Settings of quantization."""

    finetune: FinetuneConfig
    """Settings of recovery."""

    evaluate: EvaluateConfig
    """Settings of the evaluation."""

    export: ExportConfig
    """Settings of the export."""

    labels: dict[str, Any]
    """Your own names and values; `GET /jobs` filters by them."""

    priority: int
    """Order among your own waiting jobs: the highest first."""

    deadline: int | str | None
    """Time limit of the job from its first start to its end, in seconds or such as `90m` or `1d 12h`. The operator
    sets default and maximum.
    """

    webhooks: list[JobWebhook]
    """Addresses that receive events of this job, as if added by `POST /webhooks`."""


class KeyRequest(TypedDict, total=False):
    """A key to create for your own tenant."""

    name: Required[str]
    """Name of the user or program that will use it."""

    scopes: list[Literal["read", "submit", "metrics", "admin"]]
    """Scopes: `read`; `submit`, which includes it; `metrics`; `admin`, which includes all."""

    days: int | None
    """Days until it expires; null: never."""


class ModelRequest(TypedDict, total=False):
    """A model to send: config.json, tokenizer and safetensors, or one GGUF model."""

    name: str
    """Name of the model, which its compressed files have."""

    files: Required[list[FileRequest]]
    """All files of the model; their kinds follow from the names."""


class RotationRequest(TypedDict, total=False):
    """How a secret is replaced."""

    keep_seconds: int
    """How long messages are also signed with the old secret."""


class WebhookChange(TypedDict, total=False):
    """Changes of a webhook; omitted fields are unchanged."""

    url: str | None
    """URL that events are sent to."""

    events: (
        list[
            Literal[
                "job.queued",
                "job.started",
                "job.stage_started",
                "job.stage_finished",
                "job.warning",
                "job.attempt_lost",
                "job.cancel_requested",
                "job.cancelled",
                "job.failed",
                "job.succeeded",
                "job.retried",
            ]
        ]
        | None
    )
    """Events to send."""

    enabled: bool | None
    """Whether events are sent to it."""


class WebhookRequest(TypedDict, total=False):
    """A webhook for the events of all jobs, or of one."""

    url: Required[str]
    """URL that events are sent to, by POST."""

    events: list[
        Literal[
            "job.queued",
            "job.started",
            "job.stage_started",
            "job.stage_finished",
            "job.warning",
            "job.attempt_lost",
            "job.cancel_requested",
            "job.cancelled",
            "job.failed",
            "job.succeeded",
            "job.retried",
        ]
    ]
    """Events to send. Default: those that end a job."""

    job_id: str | None
    """Only events of this job; null: of all jobs."""
