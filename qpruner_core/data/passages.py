"""Split long text into passages at good places, without losing a character."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from qpruner_core.data.records import TextRecord

LONGEST_PASSAGE = 4096
"""Most characters of prose that are held out, or trained on, as one piece."""

_PARAGRAPH_BREAK = re.compile(r"\n(?:[ \t]*\n)+")
_SENTENCE_END = re.compile(r"[.!?…][\"'»”’)\]]*\s+|[。！？｡][」』”’）]*\s*|[।؟۔]\s*")


def passages(text: str, most: int = LONGEST_PASSAGE) -> Iterator[TextRecord]:
    """Split ``text`` into parts of at most ``most`` characters, each with the following space as its ``end``.

    A part ends at a paragraph, else at a line, a sentence, or a word; or anywhere if its second half has none of these.
    Together the parts are ``text``.
    """
    start = 0
    while len(text) - start > most:
        cut = _best_cut(text, start, start + most)
        yield _passage(text[start:cut])
        start = cut
    if start < len(text):
        yield _passage(text[start:])


def paragraphs(text: str, most: int = LONGEST_PASSAGE) -> list[TextRecord]:
    """Split ``text`` into paragraphs, and those longer than ``most`` characters like :func:`passages`; at least one
    part."""
    parts: list[TextRecord] = []
    start = 0
    for gap in (*_PARAGRAPH_BREAK.finditer(text), None):
        end = len(text) if gap is None else gap.end()
        parts += passages(text[start:end], most)
        start = end
    return parts or [TextRecord("", "")]


def with_words(parts: Iterable[TextRecord]) -> Iterator[TextRecord]:
    """``parts`` of one text, those of space alone as the end of the one before. Space around the whole text is dropped,
    except the indentation of its first line."""
    held: TextRecord | None = None
    space: list[str] = []
    for part in parts:
        if part.text.strip():
            if held is not None:
                yield TextRecord(held.text, held.end + "".join(space))
            held, space = part, []
        elif held is not None:
            space.append(part.text + part.end)
    if held is not None:
        yield TextRecord(held.text)


def _best_cut(text: str, start: int, end: int) -> int:
    middle = (start + end) // 2
    for separator in ("\n\n", "\n"):
        found = text.rfind(separator, middle, end)
        if found > 0:
            return found + len(separator)
    sentence = max((match.end() for match in _SENTENCE_END.finditer(text, middle, end)), default=0)
    if sentence:
        return sentence
    return next((place + 1 for place in range(end - 1, middle, -1) if text[place].isspace()), end)


def _passage(text: str) -> TextRecord:
    body = text.rstrip()
    return TextRecord(body, text[len(body) :])
