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


class JobRequest(TypedDict, total=False):
    """A run to do: its settings, and labels to find it by."""

    model: Required[str]
    """A local directory, a hub id ("org/name@revision"), or "demo:smollm2-135m-instruct"."""

    dataset: Required[str]
    """A .jsonl, .json, .csv, .tsv, .txt or .parquet file (text also as .gz or .zst), a hub dataset id
    ("org/name@revision"), or the id of an upload ("ds_…").
    """

    fit: FitConfig | None
    """A device that the model is to run in with its KV cache, activations and engine; the bytes of weights follow.
    Exactly one of this and memory_budget is given.
    """

    memory_budget: int | str | None
    """Bytes of the weights of the loaded model, as a number or as "130MB" or "6GiB". Exactly one of this and fit is
    given.
    """

    seed: int
    """Random seed."""

    sequence_length: int
    """Tokens per sequence, in every stage."""

    template_date: date | str
    """Date that a chat template is given when it asks for today's."""

    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"]
    """Type of matrix products. auto: on a CPU the faster one of bfloat16 and float32, measured once per machine; on a
    GPU bfloat16, or float16 on a card without bfloat16. Weights stay in 16 bits in memory.
    """

    target: Literal["gguf", "compressed-tensors", "bitsandbytes"]
    """Where the result will run, and so in which formats weights may be stored. gguf: llama.cpp and Ollama;
    compressed-tensors: vLLM, SGLang and transformers; bitsandbytes: transformers with PEFT and this package.
    """

    preset: Literal["llm-pruner", "qpruner1", "qpruner2", "qpruner3", "best"]
    """Settings that others go by unless they are named: LLM-Pruner's, QPruner's three methods, or ours."""

    prune: PruneConfig
    score: ScoreConfig
    allocate: AllocateConfig
    quantize: QuantizeConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    labels: dict[str, Any]
    """Names and values of your own; `GET /jobs` filters by them."""
