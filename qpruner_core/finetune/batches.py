"""An endless stream of training batches."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from qpruner_core.data import Example

IGNORED = -100
"""Label of a token that no loss is taken of, as in transformers."""


@dataclass(frozen=True)
class Batch:
    """``input_ids``, ``attention_mask`` and ``labels``, int64 ``[batch, length]``; right-padded."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


def batches(examples: Sequence[Example], size: int, *, seed: int, device: torch.device) -> Iterator[Batch]:
    """Batches of ``size`` in an order shuffled anew each epoch, for ever."""
    generator = random.Random(seed)  # noqa: S311 - an order, not a secret
    waiting: list[int] = []
    while True:
        while len(waiting) < size:
            waiting += generator.sample(range(len(examples)), len(examples))
        chosen, waiting = [examples[index] for index in waiting[:size]], waiting[size:]
        ids = [example.input_ids for example in chosen]
        yield Batch(
            input_ids=pad_sequence(ids, batch_first=True).to(device),
            attention_mask=pad_sequence([torch.ones_like(each) for each in ids], batch_first=True).to(device),
            labels=pad_sequence([example.labels for example in chosen], batch_first=True, padding_value=IGNORED).to(
                device
            ),
        )
