"""What a model loses on held-out text when some of its layers are NF4, each allocation measured once and kept."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import PreTrainedModel

from qpruner_core.models.families import Family, linear_weight, set_linear_weight
from qpruner_core.precisions import precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.score.prefix import PrefixForward

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
    """Measures ``model`` on ``windows [windows, length]`` (token ids) with each layer in 4 (NF4) or 16 bits.

    What was measured is kept in the JSON-lines ``file`` as soon as it exists, and not measured again.
    """

    def __init__(self, model: PreTrainedModel, family: Family, windows: torch.Tensor, file: Path) -> None:
        self._forward = PrefixForward(model, family, windows, capacity=_PREFIX_BYTES)
        self._windows, self._file = windows, file
        self._modules = [
            [layer.get_submodule(path) for path in family.linear_paths(layer)] for layer in family.decoder_layers(model)
        ]
        nf4 = precisions(QuantizeConfig())[LOW]
        self._weights = {HIGH: [[linear_weight(module) for module in layer] for layer in self._modules]}
        self._weights[LOW] = [
            [nf4.decode(nf4.encode(weight.to(torch.bfloat16))).to(weight.dtype) for weight in layer]
            for layer in self._weights[HIGH]
        ]
        self._reference: list[torch.Tensor] = []
        self._known = _read(file)

    @property
    def layers(self) -> int:
        """The layers of the model."""
        return len(self._modules)

    def __call__(self, bits: Sequence[int]) -> Loss:
        """The loss with ``bits[i]`` in layer ``i``."""
        key = tuple(bits)
        if key not in self._known:
            if not self._reference:
                every = self._logits((HIGH,) * self.layers)
                self._reference = [log_softmax(logits.float(), dim=-1) for logits in every]
            self._known[key] = self._compare(self._logits(key))
            _append(self._file, key, self._known[key])
        return self._known[key]

    def _logits(self, bits: tuple[int, ...]) -> list[torch.Tensor]:
        for layer, bit in enumerate(bits):
            for module, weight in zip(self._modules[layer], self._weights[bit][layer], strict=True):
                set_linear_weight(module, weight)
        return [self._forward.logits(index, (0, *bits)) for index in range(len(self._windows))]

    def _compare(self, every: list[torch.Tensor]) -> Loss:
        divergence = loss = 0.0
        for window, logits, expected in zip(self._windows, every, self._reference, strict=True):
            actual = log_softmax(logits.float(), dim=-1)
            divergence += kl_div(actual, expected, reduction="batchmean", log_target=True).item()
            loss += cross_entropy(actual[:-1], window[1:]).item()
        count = len(self._windows)
        return Loss(divergence=divergence / count, log_perplexity=loss / count)


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
