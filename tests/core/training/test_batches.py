from __future__ import annotations

from itertools import islice

import torch

from qpruner_core.data.tokenization import IGNORED
from qpruner_core.training.batches import Batch, batches, in_batches, make_batch
from tests.core.training.adapters import CPU, example


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.input_ids, other.input_ids)
        and torch.equal(one.position_ids, other.position_ids)
        and torch.equal(one.targets, other.targets)
    )


def test_batches_pad_on_the_right_and_have_no_target_at_padding_or_prompt() -> None:
    batch = make_batch([[example(6, masked=3)], [example(4)]], CPU)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 0, 0]]
    assert batch.targets.tolist() == [[IGNORED, IGNORED, 4, 5, 6, IGNORED], [2, 3, 4, IGNORED, IGNORED, IGNORED]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 0, 1]]


def test_packed_examples_have_positions_of_their_own_and_do_not_predict_each_other() -> None:
    batch = make_batch([[example(3), example(2, first=8)]], CPU)
    assert batch.input_ids.tolist() == [[1, 2, 3, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.targets.tolist() == [[2, 3, IGNORED, 9, IGNORED]]


def test_every_example_is_seen_once_an_epoch_in_an_order_of_the_seed() -> None:
    examples = [example(length) for length in range(2, 10)]

    def seen(seed: int) -> list[int]:
        stream = batches(examples, 4, seed=seed, device=CPU)
        return [int((row > 0).sum()) for _ in range(2) for row in next(stream).input_ids]

    assert sorted(seen(3)) == list(range(2, 10))
    assert seen(3) == seen(3) != seen(4)


def test_packing_fills_rows_as_far_as_they_go_and_leaves_no_example_out() -> None:
    examples = [example(length, first=20 * length) for length in range(2, 10)]
    stream = batches(examples, 1, seed=0, device=CPU, packed_length=12)
    rows = [next(stream).input_ids[0] for _ in range(40)]
    assert all(len(row) <= 12 for row in rows)
    assert any(len(row) > 9 for row in rows)
    firsts = [int(value) // 20 for row in rows for value in row if value % 20 == 0]
    assert sorted(firsts[:8]) == sorted(firsts[8:16]) == list(range(2, 10))


def test_a_stream_can_begin_at_any_batch() -> None:
    examples = [example(length) for length in range(2, 13)]
    for packed_length in (None, 16):
        whole = batches(examples, 3, seed=1, device=CPU, packed_length=packed_length)
        rest = batches(examples, 3, seed=1, device=CPU, packed_length=packed_length, first=7)
        assert all(same(one, other) for one, other in zip(islice(whole, 7, 15), islice(rest, 8), strict=True))


def test_an_example_longer_than_a_row_has_one_of_its_own() -> None:
    stream = batches([example(9)], 2, seed=0, device=CPU, packed_length=4)
    assert next(stream).input_ids.shape == (2, 9)


def test_validation_batches_have_every_example_once() -> None:
    found = in_batches([example(length) for length in (3, 4, 5)], 2, CPU)
    assert [batch.input_ids.shape for batch in found] == [(2, 4), (1, 5)]
