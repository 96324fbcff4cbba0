"""Models beside the dense one, on texts that no calibration saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from qpruner_core.compute.choice import computing
from qpruner_core.measure.agreement import Agreement, Comparison, DensePredictions
from qpruner_core.measure.perplexity import perplexity


@dataclass(frozen=True)
class Figures:
    """On one text; ``agreement``: with the dense model, which has none."""

    perplexity: float
    agreement: Agreement | None = None

    def agreement_cells(self) -> list[str]:
        """Divergence and the share of equal first choices, for a table."""
        same = self.agreement
        return ["–", "–"] if same is None else [f"{same.divergence:.4f}", f"{same.top1:.1%}"]


class Meter:
    """Measures models on ``texts`` (token ids ``[windows, length]`` by name); the first one is what all others are
    compared with. Its predictions are kept in memory, at most ``most_bytes`` of each text."""

    def __init__(self, texts: Mapping[str, torch.Tensor], most_bytes: int = 2**31) -> None:
        self._texts = texts
        self._most_bytes = most_bytes
        self._dense: dict[str, DensePredictions] = {}

    @computing()
    def __call__(self, model: nn.Module) -> dict[str, Figures]:
        """Perplexity, and agreement with the dense model, by text."""
        found = {}
        for name, windows in self._texts.items():
            if name not in self._dense:
                self._dense[name] = DensePredictions(self._most_bytes)
                found[name] = Figures(perplexity(model, windows, unwatched, self._dense[name].keep))
            else:
                comparison = Comparison(self._dense[name])
                value = perplexity(model, windows, unwatched, comparison.add)
                found[name] = Figures(value, comparison.result())
        return found


def unwatched(done: int, total: int) -> None:
    """Progress that nobody watches."""


def parameter_bytes(model: nn.Module) -> int:
    """Bytes of the parameters of ``model``."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
