"""KL divergence of a changed model's predictions from those of the original, on calibration text."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import torch
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.forward.prefix import PrefixForward
from qpruner_core.models.families import Family

_LOGITS = 4 * 49_152  # compared at a time, so that their memory fits the processor's cache


class Divergence:
    """Mean KL(reference ‖ changed) in nats per token on token ids ``calibration [sequences, length]``, relative to the
    model at construction.

    Reference logits are kept in bfloat16: ``2 · tokens · vocabulary`` bytes. In addition, up to ``capacity`` bytes of
    hidden states are kept, so that layers before the first changed one are skipped; see :class:`PrefixForward`.
    """

    def __init__(
        self, model: PreTrainedModel, family: Family, calibration: torch.Tensor, *, capacity: int = 2**29
    ) -> None:
        self._forward = PrefixForward(model, family, calibration, capacity=capacity)
        self._reference = [Reference(self._forward.logits(index)) for index in range(len(calibration))]
        self._states = list(range(1 + len(family.decoder_layers(model))))
        self._changes = len(self._states)
        self._last_states: tuple[Hashable, ...] = ()
        self._last: dict[int, float] = {}

    def __call__(
        self,
        first_changed_layer: int = 0,
        *,
        states: Sequence[Hashable] | None = None,
        sequences: int | None = None,
    ) -> float:
        """Divergence of the present model on the first ``sequences`` of the text (default: all).

        Layers before ``first_changed_layer``, and everything before the layers if that is above 0, must be unchanged
        since the last call. ``states`` (see :class:`PrefixForward`) also reuses earlier calls.

        Raises:
            NotFiniteError: the model predicts NaN.
        """
        if states is None:
            states = self._after_change(first_changed_layer)
            self._last_states = ()  # equal layers may have another head
        chosen = self._reference[:sequences]
        total = sum(self._of(index, tuple(states)) for index in range(len(chosen)))
        if math.isnan(total):
            raise NotFiniteError(
                "The model's predictions are not finite.",
                field="model",
                remedy="Check its weights for NaN or infinity, or prune less.",
            )
        return max(total / sum(len(reference) for reference in chosen), 0.0)

    def _of(self, index: int, states: tuple[Hashable, ...]) -> float:
        """Divergence on one sequence, in nats; reused if the model is that of the last call."""
        if states != self._last_states:
            self._last_states, self._last = states, {}
        if index not in self._last:
            self._last[index] = self._reference[index].divergence(self._forward.logits(index, states))
        return self._last[index]

    def _after_change(self, first_changed_layer: int) -> list[int]:
        first = first_changed_layer + 1 if first_changed_layer > 0 else 0
        for place in range(first, len(self._states)):
            self._states[place] = self._changes
        self._changes += 1
        return self._states


class Reference:
    """The reference's predictions on one sequence, from logits ``[length, vocabulary]``."""

    def __init__(self, logits: torch.Tensor) -> None:
        self._logits = logits.to(torch.bfloat16)
        self._rows = max(_LOGITS // logits.shape[1], 1)
        self._log_sums = torch.cat([rows.float().logsumexp(dim=-1) for rows in self._logits.split(self._rows)])

    def __len__(self) -> int:
        return len(self._logits)

    def divergence(self, logits: torch.Tensor) -> float:
        """KL(reference ‖ ``logits``) in nats, summed over the tokens.

        With logits ``r`` and ``a`` it is ``Σ p (r − a) − log Σ exp(r) + log Σ exp(a)``, where ``p`` are the reference's
        probabilities. Computed in float32 for a few tokens at a time in reused memory: making all log-probabilities of
        a sequence took as long as the layers.
        """
        logits = logits.to(torch.bfloat16)
        shape = (self._rows, logits.shape[1])
        buffers = [torch.empty(shape, dtype=torch.float32, device=logits.device) for _ in range(3)]
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        parts = (each.split(self._rows) for each in (self._logits, logits, self._log_sums))
        for reference, changed, log_sum in zip(*parts, strict=True):
            expected, actual, difference = (buffer[: len(changed)] for buffer in buffers)
            expected.copy_(reference)
            actual.copy_(changed)
            torch.sub(expected, actual, out=difference)
            probabilities = expected.sub_(log_sum.unsqueeze(1)).exp_()
            highest = actual.amax(dim=-1)
            changed_sum = actual.sub_(highest.unsqueeze(1)).exp_().sum(dim=-1).log_() + highest
            total += (torch.linalg.vecdot(probabilities, difference) - log_sum + changed_sum).sum(dtype=torch.float64)
        return total.item()
