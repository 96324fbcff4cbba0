"""The typed description of a run: model, dataset, budget, and the settings of every stage."""

from __future__ import annotations

import hashlib
import re
from datetime import date
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.bounds import LONGEST_SEQUENCE, SHORTEST_SEQUENCE
from qpruner_core.compute.config import ComputeDtype
from qpruner_core.dataset_forms import TEMPLATE_DATE
from qpruner_core.device_fit.config import FitConfig
from qpruner_core.earlier_names import with_runs_on
from qpruner_core.errors import InvalidConfigError
from qpruner_core.evaluate.config import EvaluateConfig
from qpruner_core.export.config import ExportConfig
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.formats.declarations import declared, offered_by, with_own_format
from qpruner_core.plain_faults import plain_fault
from qpruner_core.presets import PresetName, with_preset
from qpruner_core.prune.config import PruneConfig
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.score.config import ScoreConfig
from qpruner_core.sizes import ByteSize
from qpruner_core.strict import StrictModel, fault_at
from qpruner_core.targets.config import (
    DEFAULT_RUNS_ON,
    DEFAULT_TARGET,
    PRECISIONS,
    RunsOn,
    TargetName,
    has_kernel,
    without_kernel,
)
from qpruner_core.unknown_setting import unknown_setting

BUDGET_REMEDY = (
    'Give exactly one: memory_budget for bytes of weights ("130MB"), or fit for a device '
    '({"memory": "24GB", "context": 8192, "sequences": 4}).'
)


SETTINGS_REMEDY = "The reference lists every setting and its range: docs/reference/job-settings.md, or /guide."
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Expected(StrictModel):
    """Digests and choices that a recipe fixes in addition to settings."""

    model_digest: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description=("Digest of the model's files. A run with other files is rejected."),
    )
    dataset_sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description=("SHA-256 of the dataset. A run with another dataset is rejected."),
    )
    recovery_loss: Literal["distillation", "cross_entropy"] | None = Field(
        default=None, description="Choice of `finetune.loss` when it is `auto`, which otherwise depends on free memory."
    )


class CompressionConfig(StrictModel):
    """Settings of a run. Also the body of ``POST /jobs``, and part of ``recipe.json``."""

    model: str = Field(
        min_length=1, max_length=1024,
        description='A local directory or .gguf file, a hub id ("org/name@revision" or "org/name:file.gguf"), the id '
        'of an upload ("md_…"), or "demo:smollm2-135m-instruct".',
    )  # fmt: skip
    dataset: str = Field(
        min_length=1, max_length=1024,
        description="A .jsonl, .json, .csv, .tsv, .txt or .parquet file (text also as .gz or .zst), "
        'a hub dataset id ("org/name@revision"), or the id of an upload ("ds_…").',
    )  # fmt: skip
    fit: FitConfig | None = Field(
        default=None,
        description=(
            "Device that the model must fit into together with its KV cache, activations and engine; the "
            "memory budget is derived from it. Give exactly one of fit and memory_budget."
        ),
    )
    memory_budget: ByteSize | None = Field(
        default=None,
        description='Bytes of the weights of the loaded model, as a number or as "130MB" or "6GiB". Give exactly one '
        "of memory_budget and fit.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Random seed.")
    sequence_length: int = Field(
        default=256, ge=SHORTEST_SEQUENCE, le=LONGEST_SEQUENCE, description="Tokens per sequence, in every stage."
    )
    template_date: date = Field(
        default=TEMPLATE_DATE,
        description="Date that is passed to chat templates that print today's date.",
    )
    compute_dtype: ComputeDtype = Field(
        default="auto",
        description="Type of matrix products. auto: on a CPU the faster one of bfloat16 and float32, measured once per "
        "machine; on a GPU bfloat16, or float16 on a card without bfloat16. Weights stay in 16 bits in memory.",
    )
    target: TargetName = Field(
        default=DEFAULT_TARGET,
        description=(
            "Engine that will run the result. It determines the allowed precisions. gguf: llama.cpp and "
            "Ollama; compressed-tensors: vLLM, SGLang and transformers; bitsandbytes: transformers with PEFT "
            "and this package."
        ),
    )
    runs_on: RunsOn = Field(
        default=DEFAULT_RUNS_ON,
        description=(
            "Hardware that the engine computes on. With compressed-tensors it restricts precisions to those "
            "that vLLM has kernels for: gpu: any NVIDIA GPU; gpu+humming: an NVIDIA GPU from sm75 with the "
            "package Humming, which adds 2, 3, 5, 6 and 7 bits; cpu: 16 bits, fp8, 8-bit weights with 8-bit "
            "inputs and, with AVX-512, 4 bits. The engine's share of fit.memory also depends on it."
        ),
    )
    preset: PresetName = Field(
        default="best",
        description="Starting values; anything set by name overrides them. llm-pruner and qpruner1 to qpruner3 are "
        "the papers' settings, best is ours.",
    )
    expected: Expected = Field(
        default=Expected(),
        description="Digests of model and dataset, and choices, that a recipe fixes in addition to settings.",
    )
    prune: PruneConfig = PruneConfig()
    score: ScoreConfig = ScoreConfig()
    allocate: AllocateConfig = AllocateConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="before")
    @classmethod
    def _under_preset(cls, values: Any) -> Any:
        return with_runs_on(with_preset(values)) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _formats_of_the_target(self) -> CompressionConfig:
        recovery = self.finetune.recovery
        formats = with_own_format(self.export.formats, self.target, recovery)
        object.__setattr__(self, "export", self.export.model_copy(update={"formats": formats}))
        offered = [one.name for one in offered_by(self.target, recovery)]
        strange = [name for name in self.export.formats if name not in offered]
        if strange and (needed := declared(strange[0]).recovery) and self.target in declared(strange[0]).targets:
            raise ValueError(f"export.formats: {strange[0]!r} needs finetune.recovery {needed!r}")
        if strange:
            said = f"{strange[0]!r} is not a format of the target {self.target}; its formats: {', '.join(offered)}"
            raise fault_at("export.formats", said, self.export.formats)
        return self

    @model_validator(mode="after")
    def _precisions_of_the_target(self) -> CompressionConfig:
        strange = [name for name in self.allocate.precisions if name not in PRECISIONS[self.target]]
        if strange:
            known = ", ".join(PRECISIONS[self.target])
            said = f"{strange[0]!r} is not a precision of the target {self.target}; its precisions: {known}"
            raise fault_at("allocate.precisions", said, self.allocate.precisions)
        lacking = [name for name in self.allocate.precisions if not has_kernel(self.target, self.runs_on, name)]
        if lacking:
            said = without_kernel(self.runs_on, lacking[0])
            raise fault_at("allocate.precisions", said, self.allocate.precisions)
        if self.runs_on == "cpu" and self.finetune.recovery == "adapter" and "int8_w8a8" in self.allocate.precisions:
            said = (
                "on a CPU, vLLM does not support adapters on int8_w8a8: leave it out, or choose another "
                "finetune.recovery"
            )
            raise fault_at("allocate.precisions", said, self.allocate.precisions)
        return self

    @model_validator(mode="after")
    def _kernels_of_the_target(self) -> CompressionConfig:
        if self.runs_on == "gpu+humming" and self.target != "compressed-tensors":
            said = f"'gpu+humming' is only for the target compressed-tensors: use 'gpu' or 'cpu' with {self.target}"
            raise fault_at("runs_on", said, self.runs_on)
        return self

    @property
    def fitting_sequences(self) -> int:
        """Calibration sequences that modules are fitted on, in the score stage and all later ones. Independent of the
        settings of later stages."""
        return max(self.prune.calibration_sequences, self.score.calibration_sequences)

    @field_validator("template_date", mode="before")
    @classmethod
    def _written_as_a_date(cls, value: object) -> object:
        if not isinstance(value, date) and not (isinstance(value, str) and _DATE.fullmatch(value)):
            raise ValueError("Not a date. Give one such as 2026-11-28.")  # a number would be seconds since 1970
        return value

    @field_validator("memory_budget")
    @classmethod
    def _one_budget(cls, value: int | None, info: ValidationInfo) -> int | None:
        if "fit" in info.data and (value is None) == (info.data["fit"] is None):
            given = (
                "Neither memory_budget nor fit is given" if value is None else "memory_budget and fit are both given"
            )
            raise ValueError(f"{given}. {BUDGET_REMEDY}")
        return value

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON of this config."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def parse_config(values: dict[str, Any]) -> CompressionConfig:
    """Validate settings into a config.

    Raises:
        InvalidConfigError: with the dotted path of the first invalid setting.
    """
    try:
        return CompressionConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        said = unknown_setting(field, CompressionConfig) if unknown else plain_fault(first)
        choice = said.endswith(BUDGET_REMEDY)
        raise InvalidConfigError(
            said.removesuffix(BUDGET_REMEDY).rstrip(),
            field=field or None,
            remedy=BUDGET_REMEDY if choice else SETTINGS_REMEDY,
        ) from error
