"""Choice of held-out records, by content and seed, so that order and duplicates do not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qpruner_core.data.passages import LONGEST_PASSAGE, paragraphs
from qpruner_core.data.records import Record, TextDataset, TextRecord, running_text

_FEW_DOCUMENTS = 20
_LARGE_SHARE = 0.1  # of all text: a document of this size would be held out, or not, alone
_LEAST_BLOCKS = 50
_SHORTEST_PASSAGE = 400  # characters; some sentences
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Split:
    """Passages of text, or records of another kind, on either side; in the order of the dataset.

    ``is_prose``: passages are consecutive, not separate documents.
    """

    train: tuple[Record, ...]
    held_out: tuple[Record, ...]
    is_prose: bool


def split_records(dataset: TextDataset, *, seed: int, share: float) -> Split:
    """Hold out about ``share`` of the dataset's characters.

    Records of equal content go to the same side. Prose is held out in chunks of neighbouring passages, so that held-out
    text stays connected, and a held-out passage is dropped wherever else it occurs. A few documents, or several of
    which one is large, are treated as prose. Long paragraphs are split into passages.
    """
    if dataset.kind != "text":
        train, held_out = _divide(dataset.records, repr, seed, share)
        return Split(tuple(train), tuple(held_out), is_prose=False)
    texts = [record for record in dataset.records if isinstance(record, TextRecord)]
    if dataset.is_prose or _are_few(texts):
        return _split_prose(texts, seed, share)
    train_texts, held_texts = _divide(texts, lambda record: record.text, seed, share)
    return Split(tuple(train_texts), tuple(held_texts), is_prose=False)


def _are_few(texts: Sequence[TextRecord]) -> bool:
    sizes = {record.text: len(record.text) for record in texts}
    return len(sizes) < _FEW_DOCUMENTS or max(sizes.values()) > _LARGE_SHARE * sum(
        map(len, (one.text for one in texts))
    )


def _split_prose(texts: Sequence[TextRecord], seed: int, share: float) -> Split:
    size = sum(len(one.text) for one in texts)
    wanted = min(LONGEST_PASSAGE, size // _LEAST_BLOCKS)
    longest = min(LONGEST_PASSAGE, max(size // _FEW_DOCUMENTS, _SHORTEST_PASSAGE))
    blocks = _blocks([part for one in texts for part in _parts(one, longest)], wanted)
    train, held_out = _divide(blocks, running_text, seed, share)
    seen = {passage.text.strip() for block in held_out for passage in block}
    kept = ([passage for passage in block if passage.text.strip() not in seen] for block in train)
    return Split(_join(kept), _join(held_out), is_prose=True)


def _parts(record: TextRecord, longest: int) -> list[TextRecord]:
    *parts, last = paragraphs(record.text.rstrip().lstrip("\n"), longest)
    return [*parts, TextRecord(last.text, record.end)]


def _divide(
    items: Sequence[_Item], content: Callable[[_Item], str], seed: int, share: float
) -> tuple[list[_Item], list[_Item]]:
    sizes: dict[bytes, int] = {}
    digests = []
    for item in items:
        text = content(item).strip()
        digest = hashlib.sha256(f"{seed}\0{text}".encode(errors="surrogatepass")).digest()
        digests.append(digest)
        sizes[digest] = len(text)
    wanted = share * sum(sizes.values())
    held: set[bytes] = set()
    size = 0
    for digest in sorted(sizes)[: len(sizes) - 1]:  # keep at least one to train on
        if held and size + sizes[digest] / 2 > wanted:
            break
        held.add(digest)
        size += sizes[digest]
    train = [item for item, digest in zip(items, digests, strict=True) if digest not in held]
    return train, [item for item, digest in zip(items, digests, strict=True) if digest in held]


def _blocks(passages: Sequence[TextRecord], wanted: int) -> list[list[TextRecord]]:
    """Chunks of neighbouring passages, short enough that there are several to choose from."""
    blocks: list[list[TextRecord]] = []
    size = wanted
    for passage in passages:
        if size >= wanted:
            blocks.append([])
            size = 0
        blocks[-1].append(passage)
        size += len(passage.text)
    return blocks


def _join(blocks: Iterable[Sequence[TextRecord]]) -> tuple[Record, ...]:
    return tuple(TextRecord(running_text(block), "") for block in blocks if block)
