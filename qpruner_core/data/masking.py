"""Which tokens of a text are learned, if the text is tokenized as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from qpruner_core.data.prompts import Spans
from qpruner_core.data.tokenization import IGNORED, Example, common_length, encode


def encode_spans(tokenizer: PreTrainedTokenizerBase, text: str, spans: Spans) -> tuple[list[int], list[bool]]:
    """Token ids of ``text`` without special tokens, and which of them lie in ``spans`` (sorted, of characters).

    A token that lies partly outside is learned if its outer part is only space or punctuation, such as the space that
    many tokenizers join to the following word, but never if it is part of another's words.
    """
    if not getattr(tokenizer, "is_fast", False):
        return _by_prefixes(tokenizer, text, spans)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    learned = [False] * len(ids)
    token = 0
    for start, end in spans:
        while token < len(ids) and offsets[token][1] <= start:
            token += 1
        while token < len(ids) and offsets[token][0] < end:
            first, last = offsets[token]
            outside = text[first : max(first, start)] + text[end:last]
            learned[token] = not any(character.isalnum() for character in outside)
            token += 1
        while token < len(ids) and offsets[token][0] == offsets[token][1] == end:
            learned[token] = True  # some tokenizers leave a trailing space out of the offsets
            token += 1
    return ids, learned


def _by_prefixes(tokenizer: PreTrainedTokenizerBase, text: str, spans: Spans) -> tuple[list[int], list[bool]]:
    """:func:`encode_spans` for a tokenizer that does not report token offsets."""
    ids = encode(tokenizer, text)
    learned = [False] * len(ids)
    for start, end in spans:
        first, last = (common_length(ids, encode(tokenizer, text[:place])) for place in (start, end))
        last = len(ids) if end == len(text) else last
        learned[first:last] = [True] * (last - first)
    return ids, learned


def mask_example(ids: list[int], learned: list[bool], length: int, start: Sequence[int]) -> Example | None:
    """One example of at most ``length`` tokens that begins with ``start``, or ``None`` if nothing in it is learned.

    A long example is cut on the left so that the answer stays. An answer longer than the sequence keeps its beginning
    and part of the prompt.
    """
    if not any(learned):
        return None
    body = length - len(start)
    first = learned.index(True)
    last = len(learned) - learned[::-1].index(True)
    begin = 0
    if len(ids) > body:
        begin = max(0, last - body) if last - first <= body else max(0, first - body // 4)
    kept = slice(begin, begin + body)
    input_ids = torch.tensor([*start, *ids[kept]], dtype=torch.long)
    mask = torch.tensor([*([False] * len(start)), *learned[kept]])
    mask[0] = False  # nothing precedes it that could predict it
    if not mask.any():
        return None
    return Example(input_ids, input_ids.masked_fill(~mask, IGNORED))
