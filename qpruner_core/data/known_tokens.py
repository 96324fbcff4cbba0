"""Check that a model has embeddings for the tokens it will read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from transformers import PreTrainedTokenizerBase

from qpruner_core.data.prepare import PreparedData
from qpruner_core.data.tokenization import ChoiceExample
from qpruner_core.errors import CorruptModelError

_NAMED = 3


def require_known_tokens(ids: Iterable[torch.Tensor], embeddings: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Reject token ``ids`` (any shape, int64) beyond the ``embeddings`` rows of a model.

    A tokenizer may have more tokens than its model (added but never trained); only tokens that occur count.

    Raises:
        CorruptModelError: names the tokens.
    """
    unknown: set[int] = set()
    for some in ids:
        if some.numel() and int(some.max()) >= embeddings:
            unknown.update(some[some >= embeddings].tolist())
    if not unknown:
        return
    tokens = ", ".join(f"{tokenizer.convert_ids_to_tokens(token)!r} ({token})" for token in sorted(unknown)[:_NAMED])
    more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
    raise CorruptModelError(
        f"The model has embeddings for {embeddings} tokens, but the text contains tokens beyond them: {tokens}{more}.",
        field="model",
        remedy="Resize its embeddings (resize_token_embeddings(len(tokenizer))) and train the new ones, use the "
        "tokenizer that it was trained with, or keep these tokens out of the text and the chat template.",
    )


def tokens_of(data: PreparedData) -> Iterator[torch.Tensor]:
    """All token ids of ``data``."""
    yield from (example.input_ids for example in data.train)
    yield data.calibration
    yield data.held_out
    yield data.probe
    yield from tokens_of_choices(data.choices)


def tokens_of_choices(examples: Iterable[ChoiceExample]) -> Iterator[torch.Tensor]:
    """All token ids of multiple-choice ``examples``."""
    for example in examples:
        yield from (torch.tensor(ids, dtype=torch.long) for ids in (example.context_ids, *example.choice_ids))
