"""Predictions of a model on fixed text, computed from the first changed layer on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from qpruner_core.models.families import Family
from qpruner_core.models.layer_skipping import LayerSkipping, hidden_state

_TRIALS = 2
"""The kept inputs must hold this many different models; otherwise inputs of fewer layers are kept."""


class PrefixForward:
    """Runs ``model`` on ``sequences`` (token ids ``[sequences, length]``) and keeps the inputs of its layers.

    A model is identified by ``states``: one value for everything before the layers (the embeddings), then one per
    layer, for example its bits. Layers are skipped if an earlier model had the same states up to them: the kept hidden
    state is passed on. Everything else (positions, masks, final norm, head) is computed by the model, so logits equal
    those of a whole forward pass bit for bit.

    At most ``capacity`` bytes of hidden states are kept; the least recently used are dropped first. If that does not
    hold the inputs of all layers of two models, only those of every second, third, … layer are kept.
    """

    def __init__(self, model: PreTrainedModel, family: Family, sequences: torch.Tensor, *, capacity: int) -> None:
        self._model = model
        self._layers = family.decoder_layers(model)
        self._skipping = LayerSkipping(self._layers)
        self._sequences = [sequence.unsqueeze(0).to(model.device) for sequence in sequences]
        self._kept: OrderedDict[Hashable, torch.Tensor] = OrderedDict()
        self.kept_bytes = 0
        self._capacity = capacity
        width = int(model.config.hidden_size) * model.dtype.itemsize
        wanted = _TRIALS * (len(self._layers) - 1) * sequences.numel() * width
        every = max(1, -(-wanted // max(capacity, 1)))
        self._places = range(every, len(self._layers), every)

    def __len__(self) -> int:
        return len(self._sequences)

    @torch.no_grad()
    def logits(self, sequence: int, states: Sequence[Hashable] | None = None) -> torch.Tensor:
        """Logits ``[length, vocabulary]`` of the present model on sequence number ``sequence``.

        ``states`` (see above) must differ wherever the model does; without them everything is computed.
        """
        keys: dict[int, Hashable] = {}
        if states is not None:
            keys = {place: (sequence, tuple(states[: place + 1])) for place in self._places}
        known = [place for place, key in keys.items() if key in self._kept]
        for place in known:
            self._kept.move_to_end(keys[place])
        first = max(known, default=0)
        hidden = self._kept[keys[first]] if first else None
        with self._skipping.starting_at(first, hidden), self._keeping(first, keys):
            logits: torch.Tensor = self._model(input_ids=self._sequences[sequence], use_cache=False).logits[0]
        return logits

    @contextmanager
    def _keeping(self, first: int, keys: dict[int, Hashable]) -> Iterator[None]:
        """Context manager that keeps the inputs of the layers after ``first`` under ``keys``."""

        def keep(place: int) -> Callable[..., None]:
            return lambda module, args, output: self._keep(keys[place], hidden_state(output))

        hooks = [self._layers[p - 1].register_forward_hook(keep(p)) for p in keys if p > first]
        try:
            yield
        finally:
            for handle in hooks:
                handle.remove()

    def _keep(self, key: Hashable, hidden: torch.Tensor) -> None:
        size = hidden.numel() * hidden.element_size()
        while self._kept and self.kept_bytes + size > self._capacity:
            _, dropped = self._kept.popitem(last=False)
            self.kept_bytes -= dropped.numel() * dropped.element_size()
        if size <= self._capacity:
            self._kept[key] = hidden
            self.kept_bytes += size
