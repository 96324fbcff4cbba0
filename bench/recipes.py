"""What the pruning benchmark compares: settings of ours, and LLM-Pruner's recipe beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from bench.llm_pruner import llm_pruner_settings
from qpruner_core.prune.config import AttentionUnit, CompensationName, CriterionName, LayoutName, PruneConfig

CRITERIA: tuple[CriterionName, ...] = get_args(CriterionName)
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
RATIOS = (0.1, 0.2, 0.3, 0.5)
STEPS = 4
"""Of the row that prunes iteratively."""


@dataclass(frozen=True)
class Recipe:
    """One way to prune; ``llm_pruner``: with its importance and calibration in place of ``settings.criterion``;
    ``rounded_down``: with its rounding of key-value groups."""

    name: str
    settings: PruneConfig
    llm_pruner: bool = False
    rounded_down: bool = False

    @property
    def importance(self) -> str:
        """The name that its importance is kept under; recipes with the same name share it."""
        return "llm_pruner" if self.llm_pruner else self.settings.criterion


def baselines(layers: int) -> list[Recipe]:
    """LLM-Pruner's recipe for a model of so many layers, in both readings of :mod:`bench.llm_pruner`."""
    settings = llm_pruner_settings(layers)
    return [
        Recipe("LLM-Pruner recipe", settings, llm_pruner=True),
        Recipe("LLM-Pruner recipe, groups rounded down", settings, llm_pruner=True, rounded_down=True),
    ]


def recipes(criteria: Sequence[CriterionName], layouts: Sequence[LayoutName], *, cross: bool) -> list[Recipe]:
    """Each criterion with the default layout and each layout with the default criterion, or every pair of them.

    The default has rows more: in several steps, with two whole layers gone first, with attention pruned too, and with
    every other way to make up for what is removed.
    """
    default = PruneConfig()
    chosen = [
        (criterion, layout)
        for criterion in criteria
        for layout in layouts
        if cross or criterion == default.criterion or layout == default.layout
    ]
    found = [_recipe(criterion, layout) for criterion, layout in chosen]
    if (default.criterion, default.layout) in chosen:
        found += _variants_of_default()
    return found


def _recipe(criterion: CriterionName, layout: LayoutName) -> Recipe:
    # Whole layers go by their influence, whatever the criterion
    name = layout if layout == "depth" else f"{criterion}, {layout}"
    return Recipe(name, PruneConfig(criterion=criterion, layout=layout))


def _variants_of_default() -> list[Recipe]:
    default = PruneConfig()
    name = f"{default.criterion}, {default.layout}"
    changed: dict[str, dict[str, int | str]] = {
        f"in {STEPS} steps" if default.steps == 1 else "in one step": {"steps": STEPS if default.steps == 1 else 1},
        "two layers removed": {"remove_layers": 2},
    }
    for unit in get_args(AttentionUnit):
        if unit != default.attention_unit:
            changed[f"attention: {unit}"] = {"attention_unit": unit}
    for compensation in get_args(CompensationName):
        if compensation != default.compensation:
            changed[f"compensation: {compensation}"] = {"compensation": compensation}
    return [
        Recipe(f"{name}, {what}", PruneConfig.model_validate(default.model_dump() | values))
        for what, values in changed.items()
    ]


def default_name() -> str:
    """The name of the product's default."""
    return _recipe(PruneConfig().criterion, PruneConfig().layout).name
