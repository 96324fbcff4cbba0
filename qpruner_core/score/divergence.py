"""How far a changed model's predictions are from those of the model it was: KL divergence on calibration text."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import kl_div, log_softmax
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError


class Divergence:
    """Mean KL(reference ‖ changed) in nats per token, on fixed text, against the model as it is at construction.

    Reference logits are kept in bfloat16: ``2 · tokens · vocabulary`` bytes.
    """

    def __init__(self, model: PreTrainedModel, calibration: torch.Tensor) -> None:
        self._model = model
        self._sequences = [sequence.unsqueeze(0).to(model.device) for sequence in calibration]
        self._reference = [self._logits(sequence) for sequence in self._sequences]

    def __call__(self) -> float:
        """The divergence of the model as it is now. Raises :class:`NotFiniteError` if it predicts NaN."""
        total = 0.0
        tokens = 0
        for sequence, reference in zip(self._sequences, self._reference, strict=True):
            expected = log_softmax(reference.float(), dim=-1)
            actual = log_softmax(self._logits(sequence).float(), dim=-1)
            total += kl_div(actual, expected, reduction="sum", log_target=True).item()
            tokens += expected.shape[0]
        if math.isnan(total):
            raise NotFiniteError(
                "The model's predictions are not numbers.",
                field="model",
                remedy="Look for NaN or infinite weights in it, or prune less.",
            )
        return max(total / tokens, 0.0)

    @torch.no_grad()
    def _logits(self, sequence: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(input_ids=sequence, use_cache=False).logits[0]
        return logits.to(torch.bfloat16)
