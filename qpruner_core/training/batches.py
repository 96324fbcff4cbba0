"""An endless stream of training batches, which can start at any position."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch.nn.utils.rnn import pad_sequence

from qpruner_core.data import Example
from qpruner_core.data.tokenization import IGNORED

Row = tuple[int, ...]
"""The examples of one sequence, by index."""


@dataclass(frozen=True)
class Batch:
    """``input_ids``, ``position_ids`` and ``targets``, int64 ``[batch, length]``.

    Positions restart with each example of a row, and with the padding after the last: transformers separates packed
    examples by them. ``targets``: the id to predict at each position, :data:`IGNORED` if none.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    targets: torch.Tensor


def make_batch(rows: Sequence[Sequence[Example]], device: torch.device) -> Batch:
    """One batch with a row for each of ``rows``, padded on the right."""
    ids = [torch.cat([example.input_ids for example in row]) for row in rows]
    longest = max(len(row) for row in ids)
    positions = [
        torch.cat(
            [
                *(torch.arange(len(example.input_ids)) for example in row),
                torch.arange(longest - sum(len(example.input_ids) for example in row)),
            ]
        )
        for row in rows
    ]
    targets = [torch.cat([_targets(example) for example in row]) for row in rows]
    return Batch(
        input_ids=pad_sequence(ids, batch_first=True).to(device),
        position_ids=torch.stack(positions).to(device),
        targets=pad_sequence(targets, batch_first=True, padding_value=IGNORED).to(device),
    )


def _targets(example: Example) -> torch.Tensor:
    """The labels shifted to the positions that predict them; the first is never predicted."""
    return torch.cat([example.labels[1:], torch.tensor([IGNORED])])


def batches(
    examples: Sequence[Example],
    size: int,
    *,
    seed: int,
    device: torch.device,
    packed_length: int | None = None,
    first: int = 0,
) -> Iterator[Batch]:
    """Endless batches of ``size`` rows, reshuffled each epoch, from batch number ``first`` on.

    A row is one example, or with ``packed_length`` as many consecutive ones as fit into so many tokens.
    """
    rows = _rows([len(example.input_ids) for example in examples], seed, packed_length or 0)
    while True:
        chosen = list(islice(rows, first * size, (first + 1) * size))
        first = 0
        yield make_batch([[examples[index] for index in row] for row in chosen], device)


def _rows(lengths: Sequence[int], seed: int, packed_length: int) -> Iterator[Row]:
    row: Row = ()
    for index in _order(len(lengths), seed):
        if row and sum(lengths[other] for other in row) + lengths[index] > packed_length:
            yield row
            row = ()
        row = (*row, index)


def _order(count: int, seed: int) -> Iterator[int]:
    generator = random.Random(seed)  # noqa: S311 - an order, not a secret
    while True:
        yield from generator.sample(range(count), count)


def in_batches(examples: Sequence[Example], size: int, device: torch.device) -> list[Batch]:
    """All ``examples`` once, in order, one per row."""
    return [
        make_batch([[example] for example in examples[start : start + size]], device)
        for start in range(0, len(examples), size)
    ]
