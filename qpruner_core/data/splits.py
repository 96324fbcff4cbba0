"""Which records are held out: by content and seed, so that order and duplicates do not matter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qpruner_core.data.records import Record, TextDataset, TextRecord

_BLOCK_CHARACTERS = 4096
_FEW_DOCUMENTS = 20
_PARAGRAPH_BREAK = re.compile(r"\n[ \t]*\n")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Split:
    """Passages of text, or records of another kind, on either side; in the order of the dataset.

    ``is_prose``: passages go on one after the other, rather than being documents of their own.
    """

    train: tuple[Record, ...]
    held_out: tuple[Record, ...]
    is_prose: bool


def split_records(dataset: TextDataset, *, seed: int, share: float) -> Split:
    """Hold out about ``share`` of the dataset's characters.

    Records of equal content go to the same side. Prose is held out in blocks of neighbouring paragraphs, so that what
    is held out is still connected text, and a paragraph that was held out is dropped wherever else it stands. A few
    long documents are treated as prose.
    """
    if dataset.kind != "text":
        train, held_out = _divide(dataset.records, repr, seed, share)
        return Split(tuple(train), tuple(held_out), is_prose=False)
    texts = [record.text for record in dataset.records if isinstance(record, TextRecord)]
    if dataset.is_prose:
        return _split_prose(texts, seed, share)
    if len(set(texts)) < _FEW_DOCUMENTS:
        return _split_prose([part for text in texts for part in _paragraphs(text)], seed, share)
    train_texts, held_texts = _divide(texts, str, seed, share)
    return Split(_records(train_texts), _records(held_texts), is_prose=False)


def _split_prose(paragraphs: Sequence[str], seed: int, share: float) -> Split:
    blocks = _blocks(paragraphs)
    train, held_out = _divide(blocks, "\n\n".join, seed, share)
    seen = {paragraph for block in held_out for paragraph in block}
    kept = ([paragraph for paragraph in block if paragraph not in seen] for block in train)
    return Split(_join(kept), _join(held_out), is_prose=True)


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
    for digest in sorted(sizes)[: len(sizes) - 1]:  # one at least is left to train on
        if held and size + sizes[digest] / 2 > wanted:
            break
        held.add(digest)
        size += sizes[digest]
    train = [item for item, digest in zip(items, digests, strict=True) if digest not in held]
    return train, [item for item, digest in zip(items, digests, strict=True) if digest in held]


def _blocks(paragraphs: Sequence[str]) -> list[list[str]]:
    """Neighbouring paragraphs, together as long as gives enough blocks to choose from."""
    wanted = min(_BLOCK_CHARACTERS, sum(map(len, paragraphs)) // 50)
    blocks: list[list[str]] = []
    size = wanted
    for paragraph in paragraphs:
        if size >= wanted:
            blocks.append([])
            size = 0
        blocks[-1].append(paragraph)
        size += len(paragraph)
    return blocks


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in _PARAGRAPH_BREAK.split(text) if part.strip()]


def _join(blocks: Iterable[Sequence[str]]) -> tuple[Record, ...]:
    return tuple(TextRecord("\n\n".join(block) + "\n\n") for block in blocks if block)


def _records(texts: Iterable[str]) -> tuple[Record, ...]:
    return tuple(TextRecord(text) for text in texts)
