"""The README.md that travels with a checkpoint: what it is, what it cost, how to load it."""

from __future__ import annotations

from collections.abc import Sequence

from qpruner_core.allocate.stage import AllocationResult
from qpruner_core.config import CompressionConfig
from qpruner_core.models.families import LayerWidths
from qpruner_core.quantize.groups import EMBEDDINGS, HEAD
from qpruner_core.report import Measurement, Pruning, Variant
from qpruner_core.sizes import format_bytes

_NAMES: dict[Variant, str] = {
    "dense": "dense, 16 bit",
    "pruned": "pruned, 16 bit",
    "pruned_nf4": "pruned, uniform NF4, no training",
    "mixed": "pruned, mixed precision, no training",
    "final": "final: mixed precision, recovered",
    "merged_quantized": "final with its adapters merged in and quantized again",
}
_MIXED = """\
`mixed` keeps every part at its own precision; it needs the `qpruner` package:

```python
from qpruner_core import load_compressed

model, tokenizer = load_compressed("mixed")
```

"""
_MERGED_QUANTIZED = """\
`merged_quantized` has the same precisions and no adapters: they were merged into the weights, which were then quantized
again. What that cost is the difference between the last two rows of the table. It loads as `mixed` does:
`load_compressed("merged_quantized")`.

"""
_MERGED = """\
`merged` is one 16-bit model of the pruned shape, {merged} in memory, which loads without this package:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("merged"{trust})
tokenizer = AutoTokenizer.from_pretrained("merged")
```
"""
_WHY_TRUST = """
Its layers differ in width, which stock {architecture} code cannot build. The small modeling file beside the weights
does, with transformers 5.15 or later.
"""


def model_card(
    config: CompressionConfig,
    memory_budget: int,
    measurements: Sequence[Measurement],
    pruning: Pruning,
    allocation: AllocationResult,
    layer_bits: Sequence[Sequence[int]],
    widths: Sequence[LayerWidths],
    *,
    merged_bytes: int,
    architecture: str,
    own_code: bool,
) -> str:
    """Markdown; says nothing that was not measured, and nothing that changes from run to run."""
    merged = _MERGED.format(merged=format_bytes(merged_bytes), trust=", trust_remote_code=True" if own_code else "")
    merged += _WHY_TRUST.format(architecture=architecture) if own_code else ""
    return "\n".join(
        [
            f"# {config.model}, compressed by QPruner",
            "",
            f"Made to fit {format_bytes(memory_budget)} ({memory_budget} bytes) for the text of "
            f"`{config.dataset}`: structured pruning, mixed precision "
            f"({_counts(config, allocation)}), low-rank recovery.",
            "",
            *_table(measurements),
            "",
            "## Pruning",
            *_pruning(pruning),
            "",
            "## Loading",
            *([_MIXED] if "mixed" in config.export.formats else []),
            *([_MERGED_QUANTIZED] if "merged_quantized" in config.export.formats else []),
            *([merged] if "merged" in config.export.formats else []),
            "## Layers",
            *_layers(layer_bits, widths),
            "",
            "The run's `recipe.json` has all settings, seeds, versions and content hashes it takes to make this again.",
            "",
        ]
    )


def _table(measurements: Sequence[Measurement]) -> list[str]:
    with_accuracy = any(row.accuracy is not None for row in measurements)
    head = "| model | bytes loaded | parameters | perplexity |" + (" accuracy |" if with_accuracy else "")
    lines = [head, "|---|---:|---:|---:|" + ("---:|" if with_accuracy else "")]
    for row in measurements:
        line = f"| {_NAMES[row.variant]} | {row.bytes} | {row.parameters} | {row.perplexity:,.2f} |"
        if row.accuracy is not None:
            line += f" {row.accuracy:.3f} ± {row.accuracy_stderr:.3f} |"
        lines.append(line)
    return [*lines, "", "Perplexity is on text of the dataset that no stage trained or calibrated on."]


def _pruning(pruning: Pruning) -> list[str]:
    if pruning.ratio == 0:
        return [f"Nothing was removed: quantization alone meets the budget. {pruning.ratio_reason}".rstrip()]
    layers = ", ".join(str(layer) for layer in pruning.removed_layers)
    multiple = pruning.width_multiple
    rounded = "" if multiple is None else f" MLP widths that were cut are multiples of {multiple}."
    return [
        f"{pruning.removed_fraction:.1%} of the decoder layers' parameters were removed ({pruning.ratio:.1%} asked), "
        f"by the criterion `{pruning.criterion}` and the layout `{pruning.layout}`.{rounded} "
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


def _counts(config: CompressionConfig, allocation: AllocationResult) -> str:
    """How many layers, blocks or modules have how many bits, and what the embeddings have."""
    bits = dict(zip(allocation.groups, allocation.best.bits, strict=True))
    outside = [f"{name} at {bits.pop(name)} bits" for name in (EMBEDDINGS, HEAD) if name in bits]
    unit = config.allocate.granularity
    counts = [f"{list(bits.values()).count(bit)} {unit}s at {bit} bits" for bit in sorted(set(bits.values()))]
    return ", ".join(counts + outside)


def _layers(bits: Sequence[Sequence[int]], widths: Sequence[LayerWidths]) -> list[str]:
    experts = any(width.num_experts for width in widths)
    lines = [
        "| layer | bits | query heads | key-value heads | MLP channels |" + (" experts |" if experts else ""),
        "|---:|---:|---:|---:|---:|" + ("---:|" if experts else ""),
    ]
    for index, (several, width) in enumerate(zip(bits, widths, strict=True)):
        bit = " and ".join(map(str, several))
        line = f"| {index} | {bit} | {width.num_attention_heads} | {width.num_key_value_heads} | "
        lines.append(line + f"{width.intermediate_size} |" + (f" {width.num_experts} |" if experts else ""))
    return lines
