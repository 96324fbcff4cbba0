"""Skip decoder layers whose output is already known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

Output = torch.Tensor | tuple[torch.Tensor | None, ...]
"""Output of a decoder layer: its hidden state ``[sequences, length, hidden size]``, alone or as the first entry."""


def hidden_state(output: Output) -> torch.Tensor:
    """The hidden state in the ``output`` of a layer."""
    hidden = output[0] if isinstance(output, tuple) else output
    assert hidden is not None
    return hidden


class LayerSkipping:
    """Lets a model start after the first of its decoder ``layers``.

    Everything else (positions, masks, final norm, head) is computed by the model, so the result is the same bit for
    bit. A layer must have run within :meth:`starting_at` before it can be skipped.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = layers
        self._forms: dict[int, int] = {}  # layer -> number of entries of its output tuple

    @contextmanager
    def starting_at(self, first: int, hidden: torch.Tensor | None) -> Iterator[None]:
        """Context manager in which the layers before number ``first`` only return ``hidden``, that layer's input."""
        skipped = self._layers[:first]
        hooks = [self._layers[index].register_forward_hook(self._noting(index)) for index in self._unknown(first)]
        try:
            for index, layer in enumerate(skipped):
                entries = self._forms[index]
                layer.forward = _saying(hidden if entries == 0 else (hidden, *[None] * (entries - 1)))
            yield
        finally:
            for layer in skipped:
                layer.__dict__.pop("forward", None)
            for hook in hooks:
                hook.remove()

    def _unknown(self, first: int) -> list[int]:
        return [index for index in range(first, len(self._layers)) if index not in self._forms]

    def _noting(self, index: int) -> Callable[..., None]:
        def note(module: nn.Module, args: object, output: Output) -> None:
            self._forms[index] = len(output) if isinstance(output, tuple) else 0

        return note


def _saying(output: object) -> Callable[..., object]:
    return lambda *args, **kwargs: output
