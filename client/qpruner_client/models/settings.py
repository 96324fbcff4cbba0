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
    """What a recipe fixes beyond settings."""

    model_digest: str | None
    """Digest of the model's files; a run of others is refused."""

    dataset_sha256: str | None
    """SHA-256 of the dataset; a run of another is refused."""

    recovery_loss: Literal["distillation", "cross_entropy"] | None
    """Choice of `finetune.loss` at `auto`, which else depends on free memory."""


class JobWebhook(TypedDict, total=False):
    """A webhook for the events of one job."""

    url: Required[str]
    """Where events are sent to, by POST."""

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
    """What `POST /jobs` takes; the dataset may be left out."""

    recipe: dict[str, Any]
    """The content of a `recipe.json`, whose files are to be made again; it stands for `model`, `dataset` and every
    other setting. What is given beside it wins, such as the id of another upload of the same `dataset`. A model or
    dataset of other content is refused.
    """

    model: str
    """A local directory, a hub id ("org/name@revision"), or "demo:smollm2-135m-instruct"."""

    dataset: str
    """As for `POST /jobs`. Left out, nothing is said of it, and times are those of enough text."""

    fit: FitConfig | None
    """Device that the model has to fit into together with its KV cache, activations and engine; the memory budget
    follows from it. Give exactly one of fit and memory_budget.
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
    """Engine that will run the result; it decides the precisions that are allowed. gguf: llama.cpp and Ollama;
    compressed-tensors: vLLM, SGLang and transformers; bitsandbytes: transformers with PEFT and this package.
    """

    runs_on: Literal["gpu", "gpu+humming", "cpu"]
    """What its engine computes on. compressed-tensors keeps to the precisions that vLLM has kernels for there: gpu;
    gpu+humming, an NVIDIA GPU from sm75 with the package Humming, for 2, 3, 5, 6 and 7 bits as well; or cpu, which
    has them for 16 bits, fp8, 8 bits in weights and inputs and, with AVX-512, 4 bits. The engine's share of
    fit.memory depends on it, too.
    """

    preset: Literal["llm-pruner", "qpruner1", "qpruner2", "qpruner3", "best"]
    """Starting values; anything set by name overrides them. llm-pruner and qpruner1 to qpruner3 are the papers'
    settings, best is ours.
    """

    expected: Expected
    """What a recipe fixes beyond settings: digests of model and dataset, choices."""

    prune: PruneConfig
    score: ScoreConfig
    allocate: AllocateConfig
    quantize: QuantizeConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    labels: dict[str, Any]
    """Names and values of your own; `GET /jobs` filters by them."""

    priority: int
    """Order among your own jobs that wait: the highest first."""

    deadline: int | str | None
    """Time that the job may take from its first start to its end, in seconds or such as `90m` or `1d 12h`. Default and
    maximum are the operator's.
    """

    webhooks: list[JobWebhook]
    """Addresses that hear of this job, as if added by `POST /webhooks`."""


class JobRequest(TypedDict, total=False):
    """A run to do: its settings, or a recipe; and labels to find it by. Without a recipe, `model` and `dataset` are
    required.
    """

    recipe: dict[str, Any]
    """The content of a `recipe.json`, whose files are to be made again; it stands for `model`, `dataset` and every
    other setting. What is given beside it wins, such as the id of another upload of the same `dataset`. A model or
    dataset of other content is refused.
    """

    model: str
    """A local directory, a hub id ("org/name@revision"), or "demo:smollm2-135m-instruct"."""

    dataset: str
    """A .jsonl, .json, .csv, .tsv, .txt or .parquet file (text also as .gz or .zst), a hub dataset id
    ("org/name@revision"), or the id of an upload ("ds_…").
    """

    fit: FitConfig | None
    """Device that the model has to fit into together with its KV cache, activations and engine; the memory budget
    follows from it. Give exactly one of fit and memory_budget.
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
    """Engine that will run the result; it decides the precisions that are allowed. gguf: llama.cpp and Ollama;
    compressed-tensors: vLLM, SGLang and transformers; bitsandbytes: transformers with PEFT and this package.
    """

    runs_on: Literal["gpu", "gpu+humming", "cpu"]
    """What its engine computes on. compressed-tensors keeps to the precisions that vLLM has kernels for there: gpu;
    gpu+humming, an NVIDIA GPU from sm75 with the package Humming, for 2, 3, 5, 6 and 7 bits as well; or cpu, which
    has them for 16 bits, fp8, 8 bits in weights and inputs and, with AVX-512, 4 bits. The engine's share of
    fit.memory depends on it, too.
    """

    preset: Literal["llm-pruner", "qpruner1", "qpruner2", "qpruner3", "best"]
    """Starting values; anything set by name overrides them. llm-pruner and qpruner1 to qpruner3 are the papers'
    settings, best is ours.
    """

    expected: Expected
    """What a recipe fixes beyond settings: digests of model and dataset, choices."""

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
    """Settings of measuring."""

    export: ExportConfig
    """Settings of the checkpoints."""

    labels: dict[str, Any]
    """Names and values of your own; `GET /jobs` filters by them."""

    priority: int
    """Order among your own jobs that wait: the highest first."""

    deadline: int | str | None
    """Time that the job may take from its first start to its end, in seconds or such as `90m` or `1d 12h`. Default and
    maximum are the operator's.
    """

    webhooks: list[JobWebhook]
    """Addresses that hear of this job, as if added by `POST /webhooks`."""


class KeyRequest(TypedDict, total=False):
    """A key to make, of your own tenant."""

    name: Required[str]
    """Name of the user or program that will use it."""

    scopes: list[Literal["read", "submit", "metrics", "admin"]]
    """What it may do: `read`; `submit`, which includes it; `metrics`; `admin`, which includes all."""

    days: int | None
    """Days until it expires; null: never."""


class RotationRequest(TypedDict, total=False):
    """How a secret is replaced."""

    keep_seconds: int
    """How long messages are signed by the old secret, too."""


class WebhookChange(TypedDict, total=False):
    """What to change of a webhook; what is left out stays."""

    url: str | None
    """Where events are sent to."""

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
    """Where events are sent to, by POST."""

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
    """Only of this job; null: of all jobs."""
