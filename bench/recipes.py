"""What the pruning benchmark compares: settings of ours, and LLM-Pruner's recipe beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from bench.llm_pruner import llm_pruner_settings
from qpruner_core.prune.config import CompensationName, CriterionName, LayoutName, PruneConfig

CRITERIA: tuple[CriterionName, ...] = get_args(CriterionName)
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
RATIOS = (0.1, 0.2, 0.3, 0.5)
STEPS = 4
"""Of the row that prunes iteratively."""


@dataclass(frozen=True)
class Recipe:
    """One way to prune; ``llm_pruner``: with its importance and calibration in place of ``settings.criterion``."""

    name: str
    settings: PruneConfig
    llm_pruner: bool = False

    @property
    def importance(self) -> str:
        """The name that its importance is kept under; recipes with the same name share it."""
        return "llm_pruner" if self.llm_pruner else self.settings.criterion


def baselines(layers: int) -> list[Recipe]:
    """LLM-Pruner's recipe for a model of so many layers, and the same with attention left alone."""
    return [
        Recipe("LLM-Pruner recipe", llm_pruner_settings(layers), llm_pruner=True),
        Recipe("LLM-Pruner recipe, MLP only", llm_pruner_settings(layers, attention=False), llm_pruner=True),
    ]


def recipes(criteria: Sequence[CriterionName], layouts: Sequence[LayoutName], *, cross: bool) -> list[Recipe]:
    """Each criterion with the default layout and each layout with the default criterion, or every pair of them.

    The default has rows more: in several steps, and with every other way to make up for what is removed.
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
        f"in {STEPS} steps" if default.steps == 1 else "in one step": {"steps": STEPS if default.steps == 1 else 1}
    }
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
