"""Amount of data that the stages of a run process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from qpruner_core.config import CompressionConfig

if TYPE_CHECKING:
    from qpruner_core.data import PreparedData

_BYTES_OF_A_TOKEN = 4
_HELD_OUT = 0.1


@dataclass(frozen=True)
class DataAmounts:
    """Amounts of data: calibration and held-out sequences of ``length`` tokens, training examples of ``example`` tokens
    on average, and choices to score."""

    length: int
    calibration: float
    held_out: float
    examples: float
    example: float
    choices: int = 0

    @classmethod
    def of(cls, data: PreparedData) -> Self:
        """The amounts of data that was read."""
        tokens = sum(len(example.input_ids) for example in data.train)
        return cls(
            length=data.held_out.shape[1],
            calibration=len(data.calibration),
            held_out=len(data.held_out),
            examples=len(data.train),
            example=tokens / len(data.train),
            choices=len(data.choices),
        )

    @classmethod
    def asked(cls, config: CompressionConfig, dataset_bytes: int | None) -> Self:
        """The amounts that the settings ask for, as far as a dataset of so many bytes probably has them (``None``:
        enough)."""
        length = config.sequence_length
        sequences = float("inf") if dataset_bytes is None else dataset_bytes / _BYTES_OF_A_TOKEN / length
        stages = (config.prune, config.score, config.allocate)
        most = max(stage.calibration_sequences for stage in stages)
        return cls(
            length=length,
            calibration=max(min(most, sequences * (1 - _HELD_OUT)), 1),
            held_out=max(min(config.evaluate.max_tokens // length, sequences * _HELD_OUT), 1),
            examples=sequences * (1 - _HELD_OUT),
            example=length,
        )
