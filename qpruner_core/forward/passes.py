"""Forward passes over calibration text that run only the layers they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.errors import NotFiniteError
from qpruner_core.models.experts import every_expert_running
from qpruner_core.models.families import Family
from qpruner_core.models.layer_skipping import LayerSkipping, Output, hidden_state

OnBatch = Callable[[int, int], None]
"""Called with (done, total) after each calibration sequence; methods with several passes count each pass."""


@contextmanager
def hooked(handles: Sequence[torch.utils.hooks.RemovableHandle]) -> Iterator[None]:
    """Removes ``handles`` at the end, in any case."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _EnoughSeen(Exception):  # noqa: N818 - no error
    """All needed modules have begun: the remaining layers need not run."""


class Resuming:
    """Lets successive passes over the same sequences each begin with the layer where the previous one ended.

    It keeps the input of that layer, ``[1, length, hidden size]`` in the model's dtype, for every sequence.
    """

    def __init__(self, model: PreTrainedModel, family: Family) -> None:
        self._layers = family.decoder_layers(model)
        self._skipping = LayerSkipping(self._layers)
        self._first = 0
        self._end: int | None = 0
        self._hidden: dict[int, torch.Tensor] = {}

    def advance(self, end: int | None) -> None:
        """Start the next passes where the last ones ended, and end them at layer number ``end`` at the earliest;
        ``None``: these are the last passes."""
        assert self._end is not None
        self._first, self._end = self._end, end

    @property
    def needed(self) -> Sequence[nn.Module]:
        """The layer that must have begun before a pass may end."""
        return [] if self._end is None or self._end == self._first else [self._layers[self._end]]

    @contextmanager
    def passing(self, sequence: int) -> Iterator[None]:
        """Context manager in which the model runs on that sequence from the first layer that is due."""

        def keep(module: nn.Module, args: object, output: Output) -> None:
            self._hidden[sequence] = hidden_state(output)

        ends = [] if self._end is None or self._end == self._first else [self._layers[self._end - 1]]
        known = self._hidden.pop(sequence, None) if self._end is None else self._hidden.get(sequence)
        with self._skipping.starting_at(self._first, known), hooked([end.register_forward_hook(keep) for end in ends]):
            yield


def forward_passes(
    model: PreTrainedModel,
    calibration: torch.Tensor,
    on_batch: OnBatch,
    *,
    needed: Sequence[nn.Module] = (),
    resuming: Resuming | None = None,
) -> None:
    """Run the decoder layers of ``model`` on every sequence of ``calibration [sequences, length]``, one at a time.

    ``needed``: modules whose inputs the caller's hooks use; once all of them have begun, the remaining layers are
    skipped. ``resuming``: state of successive passes. Separate experts without routed tokens run on none.

    Raises:
        NotFiniteError: a final hidden state is NaN or infinite.
    """
    needed = [*needed, *([] if resuming is None else resuming.needed)]
    unseen: set[nn.Module] = set()

    def see(module: nn.Module, args: object) -> None:
        unseen.discard(module)
        if not unseen:
            raise _EnoughSeen

    hooks = [module.register_forward_pre_hook(see) for module in needed]
    with torch.no_grad(), hooked(hooks), every_expert_running(model):
        for index, sequence in enumerate(calibration):
            unseen.update(needed)
            with nullcontext() if resuming is None else resuming.passing(index), suppress(_EnoughSeen):
                states = model.base_model(input_ids=sequence.unsqueeze(0).to(model.device), use_cache=False)[0]
                require_finite(states)
            on_batch(index + 1, len(calibration))


def require_finite(measured: torch.Tensor) -> None:
    """Raise :class:`NotFiniteError` if ``measured`` activations are not finite."""
    if not measured.isfinite().all():
        raise NotFiniteError(
            "The model's activations on the calibration text are not finite.",
            field="model",
            remedy="Check its weights for NaN or infinity, and for overflow if it is in float16.",
        )
