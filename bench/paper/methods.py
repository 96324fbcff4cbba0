"""What is compared: each method as a preset of the pipeline, with the settings that the benchmark fixes for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.paper.amounts import Amounts
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.presets import PresetName

QUANTIZING = "quantizing"
NOTHING: tuple[str, ...] = ()
INFORMATION = ("mutual information",)
TRIED = ("mutual information", QUANTIZING)
EVERYTHING = (*TRIED, "sensitivity")
"""Parts of the score stage, by what it tells. Modules quantized there are those that trials try."""


@dataclass(frozen=True)
class Method:
    """A way through the pipeline.

    ``in_budget``: at the bytes of its ratio; else it takes what its precisions take. ``ratio_is_free``: given only the
    bytes. ``uses``: parts of the score stage that it needs and is charged. ``finetune``: settings of recovery of its
    own.
    """

    name: str
    preset: PresetName
    uses: tuple[str, ...]
    in_budget: bool = True
    ratio_is_free: bool = False
    finetune: dict[str, Any] = field(default_factory=dict)


LLM_PRUNER = Method("LLM-Pruner", "llm-pruner", NOTHING, in_budget=False)
QPRUNER1 = Method("QPruner1", "qpruner1", NOTHING, in_budget=False)
QPRUNER3 = Method("QPruner3", "qpruner3", TRIED)
OURS = Method("ours", "best", EVERYTHING)
OURS_FROM_TEXT = Method("ours, learning from text", "best", EVERYTHING, finetune={"loss": "cross_entropy"})
OURS_FREE = Method("ours, given only bytes", "best", EVERYTHING, ratio_is_free=True)

METHODS = (
    LLM_PRUNER,
    QPRUNER1,
    Method("QPruner2", "qpruner2", INFORMATION),
    QPRUNER3,
    OURS,
    OURS_FROM_TEXT,
    OURS_FREE,
)


@dataclass(frozen=True)
class Setup:
    """What every run shares: the model's reference, the file of training text, and how much is done."""

    model: str
    text: Path
    amounts: Amounts
    learning_rate: float

    def config(self, method: Method, ratio: float, seed: int, budget: int) -> CompressionConfig:
        """The run of ``method`` that is pruned by ``ratio`` or, where it is free, by the smallest at which ``budget``
        holds at the lowest precision.

        Raises:
            InvalidConfigError: a setting is out of its range.
        """
        amounts = self.amounts
        trials = amounts.trials
        allocate: dict[str, Any] = {"calibration_sequences": amounts.sequences}
        if method.preset == "qpruner3":
            trials = amounts.paper_trials
            allocate["recovery_steps"] = amounts.recovery_steps
        finetune = amounts.finetune(self.learning_rate) | method.finetune
        return parse_config(
            {
                "model": self.model, "dataset": str(self.text.resolve()),
                "target": "bitsandbytes", "memory_budget": budget, "seed": seed,
                "sequence_length": amounts.length, "preset": method.preset,
                "prune": {"ratio": None if method.ratio_is_free else ratio},
                "allocate": allocate | {"trials": trials},
                "finetune": finetune,
            }
        )  # fmt: skip
