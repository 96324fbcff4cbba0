"""What a peer is: a tool that makes a dense checkpoint smaller, and what it made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel


@dataclass(frozen=True)
class Calibration:
    """What a tool may look at: ``file``, JSON lines of ``{"text": …}``, of which it takes so many sequences of so many
    tokens; ours takes the same."""

    file: Path
    sequences: int
    length: int


@dataclass(frozen=True)
class Quantized:
    """A model that computes with the values that the tool stores, in eval mode.

    ``bytes``: of all that the tool keeps loaded: weights, constants, embeddings, norms. ``mean_bits``: of a weight of
    the layers, without constants. ``counted``: how ``bytes`` was found, in words.
    """

    model: PreTrainedModel
    bytes: int
    mean_bits: float
    counted: str


class Peer(Protocol):
    """A way to use a tool; ``package``: its name on PyPI; ``settings``: those that differ from its own defaults."""

    name: str
    package: str
    settings: dict[str, str | int | float]

    def quantize(self, model: Path, calibration: Calibration) -> Quantized:
        """The model of the directory ``model`` (bfloat16 safetensors), quantized; the head stays tied."""
