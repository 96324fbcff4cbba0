"""Distance of a model's predictions from the dense model's on the same text, in the pass that measures perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qpruner_core.errors import NotFiniteError
from qpruner_core.measure.divergence import Reference

MOST_BYTES = 2**29
"""Bytes of the dense model's logits that are kept, in bfloat16: 5,461 tokens of a vocabulary of 49,152."""


@dataclass(frozen=True)
class Agreement:
    """``divergence``: mean KL(dense ‖ other) in nats per token; ``top1``: share of the ``tokens`` for which both
    predict the same next token."""

    divergence: float
    top1: float
    tokens: int


class DensePredictions:
    """The dense model's predictions on the first tokens of a text, as many as fit into ``most_bytes`` (at least one).

    Call :meth:`keep` with the logits of each part of the text in turn, then pass each other model's logits of the same
    parts to a :class:`Comparison`.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._left = most_bytes
        self.parts: list[tuple[Reference, torch.Tensor]] = []

    def keep(self, logits: torch.Tensor) -> None:
        """Keep as much of ``logits [tokens, vocabulary]`` as there is room for."""
        size = 2 * logits.shape[1]
        rows = min(len(logits), max(self._left // size, 0 if self.parts else 1))
        if rows <= 0:
            self._left = 0  # a later, shorter part would not belong to the first tokens
            return
        kept = logits[:rows]
        self.parts.append((Reference(kept.clone()), kept.argmax(dim=-1)))
        self._left -= rows * size if rows == len(logits) else self._left


class Comparison:
    """Comparison of another model with ``dense``."""

    def __init__(self, dense: DensePredictions) -> None:
        self._dense = dense
        self._part = 0
        self._divergence = 0.0
        self._same = 0
        self._tokens = 0

    def add(self, logits: torch.Tensor) -> None:
        """Compare ``logits [tokens, vocabulary]`` of the next part of the text, if the dense model's were kept."""
        if self._part == len(self._dense.parts):
            return
        reference, first = self._dense.parts[self._part]
        self._part += 1
        rows = logits[: len(reference)].to(first.device)
        self._divergence += reference.divergence(rows)
        self._same += int((rows.argmax(dim=-1) == first).sum())
        self._tokens += len(reference)

    def result(self) -> Agreement:
        """The agreement over all compared tokens.

        Raises:
            NotFiniteError: a prediction is NaN.
        """
        if math.isnan(self._divergence):
            raise NotFiniteError(
                "The model's predictions are not finite.",
                field="model",
                remedy="Check its weights for NaN or infinity, or prune less.",
            )
        mean = self._divergence / self._tokens
        return Agreement(max(mean, 0.0), self._same / self._tokens, self._tokens)
