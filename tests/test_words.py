"""Texts for people are plain technical English, without phrases that readers stumble over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("qpruner_core", "app", "worker", "client/qpruner_client")
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "client/README.md")),
    *sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if "benchmarks" not in path.parts and path.name != "decisions.md"  # dated notes
    ),
]
PATTERNS = {
    r"(?:^|[.;:]\s)What\s(?!\?)": "What a scale of zero counts as",
    r"\bgo(?:es|ing)? on (?:from|where|after|at|with)\b": "it goes on where it was ended",
    r"\banew\b": "All is done anew where the budget may decide",
    r"\b(?:hub|store|broker|database) (?:is )?away\b": "the hub is away",
    r"\bdo(?:es)? not answer\b": "The database does not answer.",
    r"\b(?:it|that|this|they|which) (?:is|are) no (?!longer\b|more\b)\w+": "it is no dataset",
    r"\b(?:of|by|with|in|to|from|than|is|are|see|all|says|say) what (?:is|it|its|was|they|has|came|comes|goes)\b": (
        "measured by what it is"
    ),
    r"\bthe (?:newest|oldest) first\b": "Jobs, the newest first.",
    r"\bthe one to take\b": "the checkpoints, the one to take first",
    r"\b(?:one|bytes|number|seconds|maximum|entry|object) an? (?:line|row|layer|token|sequence|kind|unit|job)\b": (
        "one JSON object a line"
    ),
    r"\ba thought\b(?!,)(?=\W*$)": "options worth a thought",
    r"\bsettings to go by\b": "settings to go by where none is chosen",
    r"\bGoes before\b": "Goes before `after`.",
    r"\b[Mm]ade as asked\b|\bas it was made\b": "The request cannot be done as it was made",
}


Text = tuple[str, str]
"""Place (``file:line``) and content of a text."""


@cache
def strings() -> list[Text]:
    """Every docstring and message of the packages, with ``…`` in place of values."""
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [text for path in modules for text in strings_of(path)]


def strings_of(path: Path) -> Iterator[Text]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner.update(part for part in ast.walk(node) if part is not node)
            text = "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
            yield place(path, node.lineno), text
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield place(path, node.lineno), node.value


@cache
def lines() -> list[Text]:
    """Every line of the documents outside code blocks."""
    found = []
    for path in DOCUMENTS:
        code = False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.lstrip().startswith("```"):
                code = not code
            elif not code:
                found.append((place(path, number), line))
    return found


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def hits(pattern: str, texts: list[Text]) -> list[str]:
    return [f"{where}: {text.strip()[:100]}" for where, text in texts if re.search(pattern, text)]


@pytest.mark.parametrize(("pattern", "example"), PATTERNS.items(), ids=PATTERNS.values())
def test_a_pattern_finds_its_example(pattern: str, example: str) -> None:
    assert re.search(pattern, example)


@pytest.mark.parametrize("pattern", PATTERNS, ids=PATTERNS.values())
def test_no_docstring_message_or_description_has_the_phrase(pattern: str) -> None:
    assert len(strings()) > 5000
    assert hits(pattern, strings()) == []


@pytest.mark.parametrize("pattern", PATTERNS, ids=PATTERNS.values())
def test_no_document_has_the_phrase(pattern: str) -> None:
    assert len(lines()) > 1000
    assert hits(pattern, lines()) == []
