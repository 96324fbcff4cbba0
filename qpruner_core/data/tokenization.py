"""From text to token ids: streams, windows, masked examples, and choices to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from qpruner_core.data.records import ChoicesRecord

IGNORED = -100
"""Label of tokens that no loss counts, as in ``torch.nn.functional.cross_entropy``."""

_BATCH = 256


@dataclass(frozen=True)
class Example:
    """A training sequence: ``input_ids`` and ``labels``, LongTensor[T]; labels are -100 for tokens that are not
    learned."""

    input_ids: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class ChoiceExample:
    """A context and its continuations as token ids; ``label`` is the index of the right one."""

    context_ids: list[int]
    choice_ids: list[list[int]]
    label: int


def start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that the tokenizer puts before every text (usually its BOS, or nothing)."""
    ids = encode(tokenizer, "a", special=True)
    bare = encode(tokenizer, "a")
    for length in range(len(ids) - len(bare) + 1):
        if ids[length : length + len(bare)] == bare:
            return ids[:length]
    return []


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool = False) -> list[int]:
    """Ids of ``text`` of any length, without the tokenizer's length warning."""
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def encode_stream(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, separate: bool) -> torch.Tensor:
    """All ``texts`` as one LongTensor[N]; ``separate`` puts the end-of-text token after each."""
    end = [tokenizer.eos_token_id] if separate and tokenizer.eos_token_id is not None else []
    pieces: list[torch.Tensor] = []
    for first in range(0, len(texts), _BATCH):
        batch = list(texts[first : first + _BATCH])
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            pieces.append(torch.tensor([*ids, *end], dtype=torch.long))
    return join(pieces)


def join(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    """``pieces`` as one LongTensor[N]."""
    return torch.cat(list(pieces)) if pieces else torch.empty(0, dtype=torch.long)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    length = min(len(one), len(other))
    return next((index for index in range(length) if one[index] != other[index]), length)


def windows(stream: torch.Tensor, length: int, start: Sequence[int]) -> torch.Tensor:
    """Non-overlapping windows of ``stream``, LongTensor[n, length], each beginning with ``start``."""
    body = length - len(start)
    count = len(stream) // body
    rows = stream[: count * body].view(count, body)
    return torch.cat([torch.tensor(start, dtype=torch.long).expand(count, -1), rows], dim=1)


def encode_choices(
    tokenizer: PreTrainedTokenizerBase, record: ChoicesRecord, length: int, start: Sequence[int]
) -> ChoiceExample | None:
    """The encoded record, or ``None`` if a choice does not fit beside any context.

    Context and choice are tokenized as one text. A choice begins with the first token that is not the context's (as in
    EleutherAI's lm-eval), because a tokenizer may join the space between them, or more, to the choice.
    """
    context = record.context.rstrip()
    space = record.context[len(context) :] or " "
    context_ids = encode(tokenizer, context) if context else []
    texts = [choice if not context or choice[0].isspace() else space + choice for choice in record.choices]
    joined = [encode(tokenizer, context + text) for text in texts]
    shared = min(common_length(context_ids, ids) for ids in joined)
    context_ids, choice_ids = context_ids[:shared], [ids[shared:] for ids in joined]
    if not all(choice_ids):
        return None
    if not start and not context_ids:
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        start = [] if first is None else [first]
    room = length - len(start) - max(len(ids) for ids in choice_ids)
    if room < 0 or not (start or context_ids):
        return None
    kept = context_ids[len(context_ids) - room :] if len(context_ids) > room else context_ids
    if not (start or kept):
        return None
    return ChoiceExample([*start, *kept], choice_ids, record.label)


def choice_as_example(choice: ChoiceExample) -> Example:
    """The context and its right continuation as a training sequence; only the continuation is learned."""
    answer = choice.choice_ids[choice.label]
    input_ids = torch.tensor([*choice.context_ids, *answer], dtype=torch.long)
    labels = input_ids.clone()
    labels[: len(choice.context_ids)] = IGNORED
    return Example(input_ids, labels)
