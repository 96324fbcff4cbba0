"""Every error code: its meaning, HTTP statuses, exit code, and its remedies in the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module

from app.guide.reference.http import description
from app.guide.reference.job_faults import job_faults
from app.guide.reference.source import Names, expressions, sentences, trees
from qpruner_core.errors import QPrunerError

_INTRODUCTION = """\
# Error codes

Over HTTP an error is an `application/problem+json` document (RFC 9457) with a stable `code`, the invalid `field` and
a `remedy`. A failed job has the same three in `error`; codes marked *failed job* occur only there. The command line
prints them and exits with the exit code. In a text that depends on the request, `…` stands for the inserted value.
"""
_MEANINGS = {
    "file_refused": "The name or the kind of a file does not belong to a model, or a name occurs twice.",
    "method_not_allowed": "The path does not support this method.",
    "unauthenticated": "The request has no API key, or one that is unknown, revoked or expired.",
    "unsupported_media_type": "The body is not of the type `application/json`.",
}
"""Meanings of codes whose details are chosen outside the call that makes the problem."""


@dataclass
class Entry:
    """A code of the reference."""

    meaning: str = ""
    statuses: set[int] = field(default_factory=set)
    exit_code: int | None = None
    fails_jobs: bool = False
    remedies: list[str] = field(default_factory=list)


def render() -> str:
    """The page in Markdown."""
    lines = [_INTRODUCTION]
    for code, entry in sorted(_entries().items()):
        marks = [f"HTTP {', '.join(map(str, sorted(entry.statuses)))}"] if entry.statuses else []
        marks += [f"exit code {entry.exit_code}"] if entry.exit_code else []
        marks += ["failed job"] if entry.fails_jobs else []
        lines += [f"## `{code}`\n", f"{entry.meaning} *{', '.join(marks)}*\n"]
        if entry.remedies:
            lines += [*(f"- {remedy}" for remedy in dict.fromkeys(entry.remedies)), ""]
    return "\n".join(lines)


def _entries() -> dict[str, Entry]:
    entries: dict[str, Entry] = defaultdict(Entry)
    kinds = _kinds_by_name()
    for kind in kinds.values():
        if "code" in vars(kind):  # else its parent has the entry
            meaning = " ".join((kind.__doc__ or "").split("\n\n")[0].replace("``", "`").split())
            entries[kind.code] = Entry(meaning, exit_code=kind.exit_code)
    for tree in trees().values():
        for node, names in expressions(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                _add(entries, kinds, node, names)
    for fault in job_faults(trees().values()):
        entry = entries[fault.code]
        entry.meaning, entry.fails_jobs = entry.meaning or fault.meaning, True
        entry.remedies += fault.remedies
    for status, code in _declared():
        entries[code].statuses.add(status)
    for code, entry in entries.items():
        entry.meaning = entry.meaning or _MEANINGS.get(code, "")
    return entries


def _kinds_by_name() -> dict[str, type[QPrunerError]]:
    """Every class of errors, from every module that has one: the page does not depend on earlier imports."""
    for name, tree in trees().items():
        classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name.endswith("Error"))
        if any(_has_code(one) for one in classes):
            import_module(name)
    return {kind.__name__: kind for kind in _kinds(QPrunerError)}


def _kinds(kind: type[QPrunerError]) -> Iterator[type[QPrunerError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__.split(".")[0] in ("qpruner_core", "app", "worker"):
            yield from _kinds(below)


def _has_code(node: ast.ClassDef) -> bool:
    return any(
        isinstance(line, ast.Assign) and isinstance(target, ast.Name) and target.id == "code"
        for line in node.body
        for target in getattr(line, "targets", ())
    )


def _declared() -> Iterator[tuple[int, str]]:
    """Status and code of every problem that an operation declares: the statuses of the core's errors."""
    for operations in description()["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if status.startswith(("4", "5")):
                    yield from ((int(status), code) for code in re.findall(r"`(\w+)`", answer["description"]))


def _add(entries: dict[str, Entry], kinds: Mapping[str, type[QPrunerError]], call: ast.Call, names: Names) -> None:
    assert isinstance(call.func, ast.Name)
    remedies = [said for one in call.keywords if one.arg == "remedy" for said in sentences(one.value, names)]
    if call.func.id == "Problem" and len(call.args) >= 3:
        for status, code in _statuses_and_codes(call.args[0], call.args[1], names):
            entry = entries[code]
            entry.statuses.add(status)
            entry.meaning = entry.meaning or " ".join(sentences(call.args[2], names)[:1])
            entry.remedies += remedies
    elif call.func.id in kinds:
        entries[kinds[call.func.id].code].remedies += remedies


def _statuses_and_codes(status: ast.expr, code: ast.expr, names: Names) -> Iterator[tuple[int, str]]:
    """Status and code of a problem: constants, or a dictionary's ``get`` that chooses the code by the status."""
    if isinstance(code, ast.Name):
        code = names.get(code.id, code)
    match status, code:
        case ast.Constant(value=int(number)), ast.Constant(value=str(name)):
            yield number, name
        case _, ast.Call(func=ast.Attribute(value=ast.Dict(keys=keys, values=values), attr="get")):
            for pair in zip(keys, values, strict=True):
                match pair:
                    case ast.Constant(value=int(number)), ast.Constant(value=str(name)):
                        yield number, name
