"""The README.md of a checkpoint: description, measurements and loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qpruner_core.config import CompressionConfig
from qpruner_core.formats.base import CheckpointFacts
from qpruner_core.formats.registry import load_format
from qpruner_core.mixed.groups import EMBEDDINGS, HEAD
from qpruner_core.models.families import LayerWidths
from qpruner_core.precision_names import size_order
from qpruner_core.report import Measurement, Pruning
from qpruner_core.result.card_metadata import metadata, short_name
from qpruner_core.sizes import format_bytes


@dataclass(frozen=True)
class CompressedModel:
    """Content of a card.

    ``stored``: the precisions that the modules of each group are stored in; ``layer_precisions``: names of each layer's
    precisions; ``widths``: of each layer after pruning. ``revision``: commit of the hub that the model came from, if
    any; ``source``: its directory.
    """

    config: CompressionConfig
    revision: str | None
    source: Path
    memory_budget: int
    measurements: Sequence[Measurement]
    pruning: Pruning
    stored: Mapping[str, Sequence[str]]
    layer_precisions: Sequence[Sequence[str]]
    widths: Sequence[LayerWidths]
    facts: CheckpointFacts


def model_card(model: CompressedModel) -> str:
    """Render the card: Markdown with a YAML header for model hubs. It only contains measured figures, and nothing that
    changes from run to run."""
    config = model.config
    head = metadata(config, model.measurements, model.revision, model.source)
    return "\n".join(
        [
            "---",
            head.to_yaml().rstrip(),
            "---",
            "",
            f"# {short_name(config.model)}, compressed by QPruner",
            "",
            f"Compressed to {format_bytes(model.memory_budget)} ({model.memory_budget} bytes) for the text of "
            f"`{short_name(config.dataset)}` by structured pruning, mixed precision "
            f"({_counts(config, model.stored)}), and recovery.",
            "",
            "## How to load it",
            "",
            *(line for name in config.export.formats for line in _loading(name, model.facts)),
            "## Evaluation",
            "",
            *_table(model.measurements),
            "",
            "## Pruning",
            "",
            *_pruning(model.pruning),
            "",
            "## Layers",
            "",
            *_layers(model.layer_precisions, model.widths),
            "",
            "The run's `recipe.json` has all settings, seeds, versions and content hashes to reproduce it.",
            "",
        ]
    )


def _loading(name: str, facts: CheckpointFacts) -> list[str]:
    """Description of a format and how to run it."""
    kind = load_format(name)
    lines = [kind.description(facts), ""]
    for snippet in kind.snippets(facts):
        lines += [f"```{snippet.language}", snippet.text, "```", ""]
    return lines


def _table(measurements: Sequence[Measurement]) -> list[str]:
    with_accuracy = any(row.accuracy is not None for row in measurements)
    head = "| model | bytes loaded | bytes on disk | parameters | perplexity | KL to dense | same top-1 |"
    lines = [head + (" accuracy |" if with_accuracy else ""), "|---" + "|---:" * (7 if with_accuracy else 6) + "|"]
    for row in measurements:
        disk = "–" if row.file_bytes is None else row.file_bytes
        line = f"| {row.label} | {row.bytes} | {disk} | {row.parameters} | {row.perplexity:,.2f} | "
        line += "– | – |" if row.divergence is None else f"{row.divergence:.3g} | {row.top1_agreement:.1%} |"
        if row.accuracy is not None:
            line += f" {row.accuracy:.3f} ± {row.accuracy_stderr:.3f} |"
        lines.append(line)
    return [*lines, "", _what_was_measured(measurements)]


def _what_was_measured(measurements: Sequence[Measurement]) -> str:
    text = "Perplexity is measured on text of the dataset that no stage trained or calibrated on."
    compared = [row.compared_tokens for row in measurements if row.compared_tokens is not None]
    if not compared:
        return text
    return (
        f"{text} KL divergence from the dense model (nats per token) and the share of tokens with the same "
        f"most likely next token are measured on its first {compared[0]} tokens. Exported checkpoints were "
        "read back from their files."
    )


def _pruning(pruning: Pruning) -> list[str]:
    if pruning.ratio == 0:
        return [f"Nothing was removed: quantization alone meets the budget. {pruning.ratio_reason}".rstrip()]
    layers = ", ".join(str(layer) for layer in pruning.removed_layers)
    multiple = pruning.width_multiple
    rounded = "" if multiple is None else f" MLP widths that were cut are multiples of {multiple}."
    return [
        f"{pruning.removed_fraction:.1%} of the decoder layers' parameters were removed ({pruning.ratio:.1%} "
        f"requested), by the criterion `{pruning.criterion}` and the layout `{pruning.layout}`.{rounded} "
        f"{pruning.ratio_reason}".rstrip(),
        "",
        "| | before | after |",
        "|---|---:|---:|",
        f"| parameters | {pruning.parameters_before} | {pruning.parameters_after} |",
        f"| parameters in the layers | {pruning.block_parameters_before} | {pruning.block_parameters_after} |",
        f"| bytes, 16 bit | {pruning.bytes_before} | {pruning.bytes_after} |",
        "",
        f"Whole layers removed: {layers or 'none'}.",
    ]


def _counts(config: CompressionConfig, stored: Mapping[str, Sequence[str]]) -> str:
    """Counts of layers, blocks or modules by the precisions of their modules, and that of embeddings and head."""
    inside = [tuple(names) for group, names in stored.items() if group not in (EMBEDDINGS, HEAD)]
    outside = [f"{name} in {' and '.join(stored[name])}" for name in (EMBEDDINGS, HEAD) if name in stored]
    by_size = sorted(set(inside), key=lambda names: [size_order(name) for name in names])
    unit = config.allocate.granularity
    return ", ".join([*(f"{inside.count(one)} {unit}s in {' and '.join(one)}" for one in by_size), *outside])


def _layers(precisions: Sequence[Sequence[str]], widths: Sequence[LayerWidths]) -> list[str]:
    experts = any(width.num_experts for width in widths)
    lines = [
        "| layer | precision | query heads | key-value heads | MLP channels |" + (" experts |" if experts else ""),
        "|---:|---:|---:|---:|---:|" + ("---:|" if experts else ""),
    ]
    for index, (several, width) in enumerate(zip(precisions, widths, strict=True)):
        line = f"| {index} | {' and '.join(several)} | {width.num_attention_heads} | {width.num_key_value_heads} | "
        lines.append(line + f"{width.intermediate_size} |" + (f" {width.num_experts} |" if experts else ""))
    return lines
