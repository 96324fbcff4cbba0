"""How much the benchmark does: what all methods share, so that none has more data or more steps than another."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Amounts(BaseModel):
    """Of the whole run.

    Evaluation: ``tokens`` of each text, ``examples`` of each task (at most). Search: ``trials`` allocations, each on
    ``sequences`` of ``length`` tokens; scores take as many as the method's preset has. QPruner3 trains
    ``recovery_steps`` in each of its ``paper_trials``. Recovery: ``steps`` of ``batch_size`` sequences; the learning
    rate is that of ``learning_rates`` with which LLM-Pruner's recovery ends at the lowest held-back loss. ``seeds``: of
    the methods ``repeated``, which differ little; of the others, one. ``search_ratio``: where searches are compared, in
    bytes that are ``search_share`` of the way from all layers at NF4 to all at INT8; there, QPruner3's has
    ``compared_trials`` of ``compared_steps`` each, as its preset has. ``memory_steps``: of recovery where its memory is
    measured; 0: none.
    """

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
