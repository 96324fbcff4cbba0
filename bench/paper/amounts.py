"""How much the benchmark does: what all methods share, so that none has more data or more steps than another."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

MEANING = {
    "tokens": "of each text",
    "examples": "of each task, at most",
    "sequences": "that trials are measured on",
    "length": "tokens of a sequence",
    "steps": "of recovery",
    "batch_size": "sequences of a step",
    "seeds": "of the methods that are repeated",
    "trials": "of our search",
    "paper_trials": "of QPruner3's",
    "recovery_steps": "in each of QPruner3's trials",
    "compared_trials": "of QPruner3's search where searches are compared",
    "compared_steps": "of recovery in each of those",
    "memory_steps": "of recovery where its memory is measured; 0: it is not",
    "held_back": "sequences kept back from recovery",
    "search_ratio": "where searches are compared; none of the ratios: they are not",
    "search_share": "of the way from NF4 to INT8 that the bytes are where searches are compared",
}
"""What each number of :class:`Amounts` counts."""


class Amounts(BaseModel):
    """Of the whole run; see :data:`MEANING`. Scores take as many sequences as the method's preset has. The learning
    rate is that of ``learning_rates`` with which LLM-Pruner's recovery ends at the lowest held-back loss. ``seeds``: of
    the methods ``repeated``, which differ little; of the others, one."""

    ratios: tuple[float, ...] = (0.2, 0.3, 0.5)
    seeds: int = 3
    repeated: tuple[str, ...] = ("LLM-Pruner", "QPruner3")
    tokens: int = 8192
    examples: int = 100
    sequences: int = 8
    length: int = 256
    steps: int = 100
    batch_size: int = 1
    learning_rates: tuple[float, ...] = (2e-4, 4e-4, 8e-4)
    held_back: int = 8
    trials: int = 40
    paper_trials: int = 12
    recovery_steps: int = 4
    search_ratio: float = 0.2
    search_share: float = 0.25
    compared_trials: int = 40
    compared_steps: int = 10
    memory_steps: int = 2

    def finetune(self, learning_rate: float) -> dict[str, Any]:
        """Settings of recovery that are the same for every method; its loss and dropout are the method's own."""
        return {
            "steps": self.steps, "batch_size": self.batch_size, "gradient_accumulation": 1,
            "learning_rate": learning_rate, "schedule": "cosine", "warmup_steps": self.steps // 10,
            "max_gradient_norm": 1.0, "packing": True, "activation_checkpointing": False,
            "validation_sequences": self.held_back, "evaluate_every": max(self.steps // 4, 1), "patience": 0,
        }  # fmt: skip


QUICK = Amounts(
    ratios=(0.2, 0.5), seeds=1, tokens=2048, examples=20, sequences=4, length=128, steps=16, learning_rates=(8e-4,),
    held_back=4, trials=8, paper_trials=4, recovery_steps=2, compared_trials=6, compared_steps=2, memory_steps=1,
)  # fmt: skip
"""A trial of a quarter of an hour on two cores: its differences are mostly noise."""
