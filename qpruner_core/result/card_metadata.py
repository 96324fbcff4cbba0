"""The YAML header of a model card, for model hubs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.repocard import metadata_load

from qpruner_core.config import CompressionConfig
from qpruner_core.report import Measurement

_LIBRARIES = {"gguf": "gguf", "compressed-tensors": "transformers", "bitsandbytes": "peft"}
_LARGEST_CARD = 2**20  # of a source's README; longer ones have no useful header


def short_name(reference: str) -> str:
    """Name of a model or dataset without the folders, scheme and revision of ``reference``, for titles."""
    name = reference.removeprefix("demo:").partition("@")[0]
    return PurePath(name).name or name


def metadata(
    config: CompressionConfig, measurements: Sequence[Measurement], revision: str | None, source: Path
) -> ModelCardData:
    """Base model, licence, library, tags and the measured perplexity.

    ``source``: the model's own directory, whose README may name a licence; a licence is never guessed. ``base_model``
    is only set for hub models, which have a ``revision``.
    """
    known = revision is not None
    return ModelCardData(
        model_name=f"{short_name(config.model)}-qpruner",
        library_name=_LIBRARIES[config.target],
        pipeline_tag="text-generation",
        tags=["qpruner", "pruned", "quantized", config.target],
        license=licence_of(source),
        base_model=config.model.partition("@")[0] if known else None,
        base_model_relation="quantized" if known else None,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type="text",
                dataset_name=f"{short_name(config.dataset)} (held out)",
                metric_type="perplexity",
                metric_value=round(measurements[-1].perplexity, 4),
            )
        ],
    )


def licence_of(directory: Path) -> str | None:
    """The licence in the YAML header of a model's README; ``None`` if there is none."""
    readme = directory / "README.md"
    try:
        head = metadata_load(readme) if readme.stat().st_size <= _LARGEST_CARD else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    licence = (head or {}).get("license")
    return licence if isinstance(licence, str) and licence.isprintable() else None
