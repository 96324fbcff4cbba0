"""What the loss really does when a unit is removed, and how well every criterion ranks that beforehand.

    python -m bench.unit_removal MODEL TEXT_FILE

prints Spearman's rank correlation of each criterion with the measured changes of the loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.stats import spearmanr
from transformers import PreTrainedModel

from qpruner_core.models import load_model, load_tokenizer, resolve_model
from qpruner_core.models.families import Family, LayerWidths, Unit, family_of, positions
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.prune.gradients import calibration_loss
from qpruner_core.prune.importance import LayerImportance, kv_groups
from qpruner_core.source_policy import SourcePolicy


class UnitAt(NamedTuple):
    """A unit of a layer; ``KEY_VALUE_HEAD`` stands for the whole group, with the query heads that read it."""

    layer: int
    unit: Unit
    position: int


def removal_truth(
    model: PreTrainedModel,
    family: Family,
    calibration: torch.Tensor,
    units: Sequence[UnitAt],
    on_unit: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """How much the mean loss on ``calibration [sequences, length]`` rises when each unit alone is removed.

    Measured on the model itself, whose weights are restored. It should be float32 or wider: one channel changes the
    loss by less than bfloat16 can tell. Experts are not for here, since a zeroed expert is still routed to.
    """
    before = _loss(model, calibration)
    changes = []
    for number, unit in enumerate(units):
        with without(model, family, unit):
            changes.append(_loss(model, calibration) - before)
        on_unit(number + 1, len(units))
    return changes


@contextmanager
def without(model: PreTrainedModel, family: Family, unit: UnitAt) -> Iterator[None]:
    """Within it the weights and biases of ``unit`` are zero."""
    layer, widths = family.decoder_layers(model)[unit.layer], family.widths(model.config)[unit.layer]
    before = []
    for cut in family.cuts(layer):
        places = positions(cut.axis, widths, family.head_dim(model.config))
        found = [places[kind][position] for kind, position in _parts(unit, widths) if kind in places]
        if found:
            entries = torch.cat(found).to(cut.tensor.device)
            before.append((cut, entries, cut.tensor.data.index_select(cut.dim, entries)))
    try:
        for cut, entries, _ in before:
            cut.tensor.data.index_fill_(cut.dim, entries, 0)
        yield
    finally:
        for cut, entries, values in before:
            cut.tensor.data.index_copy_(cut.dim, entries, values)


def _parts(unit: UnitAt, widths: LayerWidths) -> list[tuple[Unit, int]]:
    if unit.unit != Unit.KEY_VALUE_HEAD:
        return [(unit.unit, unit.position)]
    per_group = widths.num_attention_heads // widths.num_key_value_heads
    readers = range(unit.position * per_group, (unit.position + 1) * per_group)
    return [(unit.unit, unit.position), *((Unit.QUERY_HEAD, head) for head in readers)]


def _loss(model: PreTrainedModel, calibration: torch.Tensor) -> float:
    with torch.no_grad():
        return sum(calibration_loss(model, sequence).item() for sequence in calibration) / len(calibration)


def sample_units(
    model: PreTrainedModel, family: Family, unit: Unit, count: int, *, layers: int, seed: int = 0
) -> list[UnitAt]:
    """About ``count`` units of one kind, drawn from as many ``layers``, spread evenly over the model."""
    widths = family.widths(model.config)
    chosen = torch.linspace(0, len(widths) - 1, layers).round().long().unique().tolist()
    generator = torch.Generator().manual_seed(seed)
    per_layer = -(-count // len(chosen))
    return [
        UnitAt(layer, unit, int(position))
        for layer in chosen
        for position in torch.randperm(widths[layer].count(unit), generator=generator)[:per_layer]
    ]


def predicted(importance: Sequence[LayerImportance], units: Sequence[UnitAt]) -> list[float]:
    """What a criterion says of ``units``."""
    return [
        float((kv_groups(importance[layer]) if unit == Unit.KEY_VALUE_HEAD else importance[layer][unit])[position])
        for layer, unit, position in units
    ]


class Correlation(NamedTuple):
    """Spearman's rank correlations of a criterion with the truth: over all units of all layers, with the change of the
    loss and with its absolute value; and with the change within one layer, averaged over the layers (NaN if none has
    five units)."""

    change: float
    absolute: float
    within: float


def rank_correlation(
    importance: Sequence[LayerImportance], units: Sequence[UnitAt], truth: Sequence[float]
) -> Correlation:
    """How well a criterion ranks ``units``, given :func:`removal_truth` of them."""
    scores = predicted(importance, units)
    layers = [[n for n, unit in enumerate(units) if unit.layer == layer] for layer in {unit.layer for unit in units}]
    within = [_spearman([scores[n] for n in same], [truth[n] for n in same]) for same in layers if len(same) >= 5]
    return Correlation(
        change=_spearman(scores, truth),
        absolute=_spearman(scores, [abs(change) for change in truth]),
        within=sum(within) / len(within) if within else float("nan"),
    )


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    return float(spearmanr(first, second).statistic)


def correlation_table(results: Mapping[str, Mapping[Unit, Correlation]]) -> str:
    """A markdown table: criterion -> kind of unit -> correlations."""
    units = list(next(iter(results.values())))
    names = [f"{_NAMES.get(unit, unit.value)}, {column}" for unit in units for column in Correlation._fields]
    lines = ["| criterion | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for criterion, found in results.items():
        cells = [f"{value:.2f}" if value == value else "–" for unit in units for value in found[unit]]
        lines.append(f"| {criterion} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


_NAMES = {Unit.CHANNEL: "channels", Unit.KEY_VALUE_HEAD: "key-value groups", Unit.QUERY_HEAD: "query heads"}


def measure(
    model: PreTrainedModel, calibration: torch.Tensor, samples: Mapping[Unit, int], *, layers: int
) -> dict[str, dict[Unit, Correlation]]:
    """The correlations of every criterion on as many units of each kind as ``samples`` says."""
    family = family_of(model)
    units = {unit: sample_units(model, family, unit, count, layers=layers) for unit, count in samples.items()}
    truth = {unit: removal_truth(model, family, calibration, sample) for unit, sample in units.items()}
    results = {}
    for name, criterion in CRITERIA.items():
        importance = criterion(model, family, calibration, lambda done, total: None)
        results[name] = {unit: rank_correlation(importance, units[unit], truth[unit]) for unit in units}
    return results


def main() -> None:
    """Measure a model on a text file and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--channels", type=int, default=60)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    arguments = parser.parse_args()
    directory = resolve_model(arguments.model, SourcePolicy()).directory
    model = load_model(directory).float()
    tokens = load_tokenizer(directory)(arguments.text.read_text(), return_tensors="pt")["input_ids"][0]
    calibration = tokens[: arguments.sequences * arguments.length].view(arguments.sequences, arguments.length)
    samples = {Unit.CHANNEL: arguments.channels, Unit.KEY_VALUE_HEAD: arguments.groups}
    print(correlation_table(measure(model, calibration, samples, layers=arguments.layers)))


if __name__ == "__main__":
    main()
