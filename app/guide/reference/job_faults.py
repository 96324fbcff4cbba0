"""Errors that a job fails with although its run raised none: a lost worker, a limit of time or memory, a crash.

They are recorded in three forms: a dictionary with ``code`` and ``message``; a call of a function with the parameters
``code`` and ``reason`` (``lose_attempt``); an instance of a class with such fields (``Breach``, ``RunError``).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from app.guide.reference.source import Names, expressions, sentences

_MEANINGS = ("message", "reason")


@dataclass(frozen=True)
class JobFault:
    """A code in the ``error`` of a failed job."""

    code: str
    meaning: str
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class _Recorder:
    """A function or class that takes a code: its positional parameters, and the default of its remedy."""

    parameters: tuple[str, ...]
    remedies: tuple[str, ...] = ()


def job_faults(modules: Iterable[ast.Module]) -> Iterator[JobFault]:
    """Every such error with a constant code in ``modules``."""
    nodes = [pair for tree in modules for pair in expressions(tree)]
    recorders = dict(pair for node, names in nodes for pair in _recorders(node, names))
    for node, names in nodes:
        match node:
            case ast.Dict() if "message" in (given := _entries(node)):
                yield from _fault(given, names, ())
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in recorders:
                recorder = recorders[name]
                given = dict(zip(recorder.parameters, node.args, strict=False))
                given |= {one.arg: one.value for one in node.keywords if one.arg is not None}
                yield from _fault(given, names, recorder.remedies)


def _fault(given: Mapping[str, ast.expr], names: Names, remedies: tuple[str, ...]) -> Iterator[JobFault]:
    match given.get("code"):
        case ast.Constant(value=str(code)) if code.isidentifier():
            said = [one for key in _MEANINGS if key in given for one in sentences(given[key], names)]
            own = tuple(sentences(given["remedy"], names)) if "remedy" in given else remedies
            yield JobFault(code, " ".join(said[:1]), own)


def _entries(node: ast.Dict) -> dict[str, ast.expr]:
    pairs = zip(node.keys, node.values, strict=True)
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def _recorders(node: ast.AST, names: Names) -> Iterator[tuple[str, _Recorder]]:
    match node:
        case ast.ClassDef(name=name, body=body):
            fields = [
                one.target.id for one in body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            ]
            if _takes_a_code(fields):
                yield name, _Recorder(tuple(field for field in fields if field != "type"))
        case ast.FunctionDef(name=name, args=args):
            named = [one.arg for one in args.kwonlyargs]
            positional = [one.arg for one in args.args]
            if _takes_a_code([*positional, *named]):
                default = dict(zip(named, args.kw_defaults, strict=True)).get("remedy")
                yield name, _Recorder(tuple(positional), tuple(sentences(default, names)) if default else ())


def _takes_a_code(parameters: list[str]) -> bool:
    return "code" in parameters and any(one in parameters for one in _MEANINGS)
