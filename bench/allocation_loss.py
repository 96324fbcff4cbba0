"""What a model loses on held-out text when its layers have some precisions, each allocation measured once and kept."""

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
from qpruner_core.precision_names import UNQUANTIZED, precision_names

LOW, HIGH = "nf4", UNQUANTIZED
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

    def __call__(self, precisions: Sequence[str]) -> Loss:
        """The loss with ``precisions[i]`` in layer ``i``."""
        key = tuple(precisions)
        if key not in self._known:
            if not self._references:
                self._references = [Reference(logits) for logits in self._logits((HIGH,) * self.layers)]
            self._known[key] = self._measure(key)
            _append(self._file, key, self._known[key])
        return self._known[key]

    def _logits(self, precisions: tuple[str, ...]) -> Iterator[torch.Tensor]:
        self._bank.apply(precisions)
        for index in range(len(self._windows)):
            yield self._forward.logits(index, self._bank.states())

    def _measure(self, precisions: tuple[str, ...]) -> Loss:
        divergence = loss = 0.0
        for window, reference, logits in zip(self._windows, self._references, self._logits(precisions), strict=True):
            divergence += reference.divergence(logits) / len(window)
            loss += cross_entropy(logits[:-1].float(), window[1:]).item()
        return Loss(divergence=divergence / len(self._windows), log_perplexity=loss / len(self._windows))


def _digest(key: str, windows: torch.Tensor) -> str:
    return hashlib.sha256(key.encode() + str(tuple(windows.shape)).encode() + windows.numpy().tobytes()).hexdigest()[
        :12
    ]


def _read(file: Path) -> dict[tuple[str, ...], Loss]:
    known = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                precisions, loss = json.loads(line)
            except ValueError:
                continue  # cut off when a run was ended: measured again
            known[tuple(precision_names(precisions))] = Loss.model_validate(loss)
    return known


def _append(file: Path, precisions: tuple[str, ...], loss: Loss) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n" + json.dumps([precisions, loss.model_dump()]))
