"""Training examples held back for validation, and the loss on them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from peft import PeftModel
from transformers import PreTrainedModel

from qpruner_core.data import Example
from qpruner_core.data.tokenization import IGNORED
from qpruner_core.training.batches import Batch
from qpruner_core.training.losses import Distillation, loss_sum

_LARGEST_SHARE = 10  # at most every tenth example


def keep_back(examples: Sequence[Example], count: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Split ``examples`` into training and validation: ``count`` of them, at most a tenth, drawn by ``seed``.

    Duplicates of validation examples are excluded from training.
    """
    count = min(count, len(examples) // _LARGEST_SHARE)
    chosen = random.Random(seed).sample(range(len(examples)), count)  # noqa: S311 - a choice, not a secret
    validation = [examples[index] for index in sorted(chosen)]
    kept_back = {_content(example) for example in validation}
    train = [example for example in examples if _content(example) not in kept_back]
    return (train, validation) if train else (list(examples), [])


def _content(example: Example) -> bytes:
    return bytes(example.input_ids.numpy().tobytes())


def validation_loss(
    model: PreTrainedModel | PeftModel, validation: Sequence[Batch], distillation: Distillation | None = None
) -> float:
    """Mean loss per target, in nats: the training loss, which is cross-entropy, or ``distillation``.

    Leaves the model in its mode.
    """
    training = model.training
    model.eval()
    total, targets = 0.0, 0
    try:
        for batch in validation:
            total += loss_sum(model, batch, distillation)
            targets += int((batch.targets != IGNORED).sum())
    finally:
        model.train(training)
    return total / max(targets, 1)
