"""How much the benchmark does."""

from __future__ import annotations

from pydantic import BaseModel


class Amounts(BaseModel):
    """Of the whole run.

    ``tokens``: of each text, by model (a vocabulary of 262,144 makes predictions of 0.5 MB per token). Calibration, of
    every tool that has one: ``sequences`` of ``length`` tokens of one text. ``ratios``: of pruning, at tight budgets.
    ``steps``: of recovery, in the rows that have it. ``between``: budgets between those of ``llama-quantize``.
    ``limit``: CPU-seconds of a rival, after which its row says that it takes more.
    """

    models: tuple[str, ...] = ("SmolLM2-135M", "Gemma 3 270M")
    tokens: dict[str, int] = {"SmolLM2-135M": 4096, "Gemma 3 270M": 2048}
    sequences: int = 64
    length: int = 256
    ratios: tuple[float, ...] = (0.1, 0.2)
    steps: int = 60
    between: bool = True
    pruned_models: tuple[str, ...] = ("SmolLM2-135M",)
    rivals: bool = True
    limit: int = 900


QUICK = Amounts(
    models=("SmolLM2-135M",), tokens={"SmolLM2-135M": 2048, "Gemma 3 270M": 1024}, sequences=16, ratios=(0.2,),
    steps=10, between=False, limit=240,
)  # fmt: skip
"""20 minutes on two cores, of one model."""
