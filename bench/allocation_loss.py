"""What a model loses on held-out text when its layers have some bits, each allocation measured once and kept."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel
from torch.nn.functional import cross_entropy

from bench.fitted_layers import FittedLayers
from qpruner_core.forward.prefix import PrefixForward
from qpruner_core.measure.divergence import Reference
from qpruner_core.models.families import family_of

LOW, HIGH = 4, 16
_PREFIX_BYTES = 2**29


class Loss(BaseModel):
    """``divergence``: KL from the 16-bit model, nats a token. ``log_perplexity``: mean loss of the next token, nats."""

    divergence: float
    log_perplexity: float

    @property
    def perplexity(self) -> float:
        """As everyone quotes it."""
        return math.exp(self.log_perplexity)


class AllocationLoss:
    """Measures the layers of ``fitted`` on ``windows [windows, length]`` (token ids).

    What was measured is kept in ``folder`` as soon as it exists, and not measured again: in a file of JSON lines whose
    name is a digest of the modules and the windows.
    """

    def __init__(self, fitted: FittedLayers, windows: torch.Tensor, folder: Path) -> None:
        self._bank, self._windows = fitted.bank, windows
        self._forward = PrefixForward(fitted.model, family_of(fitted.model), windows, capacity=_PREFIX_BYTES)
        self._references: list[Reference] = []
        self._file = folder / f"losses-{_digest(fitted.key, windows)}.jsonl"
        self._known = _read(self._file)

    @property
    def layers(self) -> int:
        """The layers of the model."""
        return len(self._bank.groups)

    def __call__(self, bits: Sequence[int]) -> Loss:
        """The loss with ``bits[i]`` in layer ``i``."""
        key = tuple(bits)
        if key not in self._known:
            if not self._references:
                self._references = [Reference(logits) for logits in self._logits((HIGH,) * self.layers)]
            self._known[key] = self._measure(key)
            _append(self._file, key, self._known[key])
        return self._known[key]

    def _logits(self, bits: tuple[int, ...]) -> Iterator[torch.Tensor]:
        self._bank.apply(bits)
        for index in range(len(self._windows)):
            yield self._forward.logits(index, self._bank.states())

    def _measure(self, bits: tuple[int, ...]) -> Loss:
        divergence = loss = 0.0
        for window, reference, logits in zip(self._windows, self._references, self._logits(bits), strict=True):
            divergence += reference.divergence(logits) / len(window)
            loss += cross_entropy(logits[:-1].float(), window[1:]).item()
        return Loss(divergence=divergence / len(self._windows), log_perplexity=loss / len(self._windows))


def _digest(key: str, windows: torch.Tensor) -> str:
    return hashlib.sha256(key.encode() + str(tuple(windows.shape)).encode() + windows.numpy().tobytes()).hexdigest()[
        :12
    ]


def _read(file: Path) -> dict[tuple[int, ...], Loss]:
    known = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                bits, loss = json.loads(line)
            except ValueError:
                continue  # cut off when a run was ended: measured again
            known[tuple(bits)] = Loss.model_validate(loss)
    return known


def _append(file: Path, bits: tuple[int, ...], loss: Loss) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n" + json.dumps([bits, loss.model_dump()]))
