"""Limits of the total work: each setting may be within its bounds, but their product beyond any machine."""

from __future__ import annotations

from dataclasses import dataclass

from qpruner_core.config import CompressionConfig
from qpruner_core.errors import InvalidConfigError

MOST_TOKENS_AT_ONCE = 2**18
"""Tokens of one forward pass: two sequences of the greatest length. Their logits alone take 17 GB with a vocabulary of
32,000."""
MOST_TOKENS_OF_A_STAGE = 10**11
"""Tokens that go through the model in one stage: eleven days at 100,000 tokens per second."""


@dataclass(frozen=True)
class _Work:
    """Tokens of a part of the run, and the settings whose product they are."""

    tokens: int
    settings: tuple[str, ...]


def refuse_too_much_work(config: CompressionConfig) -> None:
    """Raise :class:`InvalidConfigError`, naming the settings, if no machine could finish a run of ``config``."""
    batch = config.finetune.batch_size * config.sequence_length
    if batch > MOST_TOKENS_AT_ONCE:
        raise InvalidConfigError(
            f"A forward pass of {config.finetune.batch_size} sequences of {config.sequence_length} tokens "
            f"exceeds the limit of {MOST_TOKENS_AT_ONCE:,} tokens.",
            field="finetune.batch_size",
            remedy="Choose a smaller finetune.batch_size, with finetune.gradient_accumulation for the rest, or a "
            "smaller sequence_length.",
        )
    for work in _works(config):
        if work.tokens > MOST_TOKENS_OF_A_STAGE:
            raise InvalidConfigError(
                f"{' × '.join(work.settings)} is {work.tokens:,} tokens, more than any machine can compute.",
                field=work.settings[0],
                remedy=f"Choose smaller values: together at most {MOST_TOKENS_OF_A_STAGE:,}.",
            )


def _works(config: CompressionConfig) -> list[_Work]:
    length, prune, score = config.sequence_length, config.prune, config.score
    allocate, finetune = config.allocate, config.finetune
    step = finetune.batch_size * finetune.gradient_accumulation * length
    step_settings = ("finetune.batch_size", "finetune.gradient_accumulation", "sequence_length")
    trials = (allocate.trials + allocate.front_points) * length
    works = [
        _Work(
            prune.steps * prune.calibration_sequences * length,
            ("prune.calibration_sequences", "prune.steps", "sequence_length"),
        ),
        _Work(
            score.calibration_sequences * score.fisher_samples * length,
            ("score.calibration_sequences", "score.fisher_samples", "sequence_length"),
        ),
        _Work(
            trials * allocate.calibration_sequences,
            ("allocate.calibration_sequences", "allocate.trials", "sequence_length"),
        ),
        _Work(finetune.steps * step, ("finetune.steps", *step_settings)),
        _Work(
            finetune.steps // finetune.evaluate_every * finetune.validation_sequences * length,
            ("finetune.validation_sequences", "finetune.steps", "sequence_length"),
        ),
    ]
    recovered = allocate.trials if allocate.objective == "recovered" else allocate.finalists
    works.append(_Work(recovered * allocate.recovery_steps * step, ("allocate.recovery_steps", *step_settings)))
    return works
