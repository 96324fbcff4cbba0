from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from qpruner_core.garbage import free_garbage, free_garbage_between_models, survivors_exempt_from_collection


class Cycle:
    """As a model with hooks that know it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    """Nothing is exempt from collection at first, and nothing is collected but when asked for."""
    gc.unfreeze()
    gc.disable()
    yield
    gc.enable()
    gc.freeze()


def test_what_is_dropped_within_the_block_is_freed_when_asked_for() -> None:
    with survivors_exempt_from_collection():
        dropped = weakref.ref(Cycle())
        assert dropped() is not None
        free_garbage()
        assert dropped() is None


def test_what_was_dropped_before_the_block_is_freed_as_it_begins() -> None:
    dropped = weakref.ref(Cycle())
    with survivors_exempt_from_collection():
        assert dropped() is None


def drop_within_the_block_and_fail(older: list[Cycle]) -> None:
    reference = weakref.ref(older[0])
    with survivors_exempt_from_collection():
        older.clear()
        free_garbage()
        assert reference() is not None
        raise ValueError("from within")


def test_what_was_there_before_is_looked_at_again_only_after_the_block_however_it_ends() -> None:
    older = [Cycle()]
    reference = weakref.ref(older[0])
    with pytest.raises(ValueError, match="from within"):
        drop_within_the_block_and_fail(older)
    free_garbage()
    assert reference() is None


def test_what_survives_between_models_is_looked_at_again_only_after_the_block() -> None:
    with survivors_exempt_from_collection():
        kept = [Cycle()]
        reference = weakref.ref(kept[0])
        free_garbage_between_models()
        kept.clear()
        free_garbage()
        assert reference() is not None
    free_garbage()
    assert reference() is None


@pytest.mark.parametrize("frozen", [False, True])
def test_a_model_that_was_in_memory_at_a_collection_is_freed_by_a_later_one(frozen: bool) -> None:
    if frozen:
        gc.freeze()
    with survivors_exempt_from_collection():
        kept = [Cycle()]
        reference = weakref.ref(kept[0])
        free_garbage()
        kept.clear()
        free_garbage()
        assert reference() is None


def test_in_a_process_that_has_frozen_objects_survivors_stay_exempt() -> None:
    gc.freeze()
    kept = [Cycle()]
    reference = weakref.ref(kept[0])
    with survivors_exempt_from_collection():
        kept.clear()
        free_garbage()
        assert reference() is not None
    free_garbage()
    assert reference() is not None


def test_what_the_process_has_frozen_itself_stays_frozen() -> None:
    older = Cycle()
    reference = weakref.ref(older)
    gc.freeze()
    with survivors_exempt_from_collection():
        pass
    del older
    free_garbage()
    assert gc.get_freeze_count()
    assert reference() is not None
