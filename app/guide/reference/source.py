"""Texts in the source of this project: its parsed modules, and the text that an expression yields."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import app
import qpruner_core
import worker

Names = Mapping[str, ast.expr]
"""Expressions by the name that they are assigned to; ``name()`` is what a function without conditions returns."""

_INSERTED = "…"


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of this project by name, parsed."""
    found = {}
    for package in (qpruner_core, app, worker):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


@cache
def expressions(tree: ast.Module) -> list[tuple[ast.AST, Names]]:
    """Every call, dictionary, class and function of ``tree``, with the names that are known there."""
    kinds = ast.Call | ast.Dict | ast.ClassDef | ast.FunctionDef
    below = _below(tree, {**_imported(tree), **_own_names(tree)})
    return [(node, names) for node, names in below if isinstance(node, kinds)]


def text(node: ast.expr, names: Names) -> str:
    """The text of ``node``, with ``…`` in place of inserted values; an optional part of it is left out."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=parts):
            return "".join(text(part, names) for part in parts)
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return text(value, names)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text(left, names) + text(right, names)
        case ast.IfExp(body=body, orelse=orelse):
            both = text(body, names), text(orelse, names)
            return _INSERTED if _INSERTED in both else " or ".join(dict.fromkeys(both)) if all(both) else ""
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.GeneratorExp(elt=one) | ast.ListComp(elt=one)]):
            return text(one, names)
    name = _name(node)
    return text(names[name], {key: one for key, one in names.items() if key != name}) if name in names else _INSERTED


def sentences(node: ast.expr, names: Names) -> list[str]:
    """The texts between which ``node`` chooses, without those of inserted values and at most one word."""
    if isinstance(node, ast.IfExp):
        return [*sentences(node.body, names), *sentences(node.orelse, names)]
    name = _name(node)
    if name in names:
        return sentences(names[name], {key: one for key, one in names.items() if key != name})
    said = re.sub(r"…( …)+", _INSERTED, text(node, names))
    said = re.sub(r"(?<=[.!?]) ?…$", "", said)  # a further sentence
    words = re.findall(r"[^\W\d_]+", said)
    return [said] if len(words) > (_INSERTED in said) else []


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Call(func=ast.Name(id=name), args=[], keywords=[]):
            return f"{name}()"
    return ""


def _below(node: ast.AST, names: Names) -> Iterator[tuple[ast.AST, Names]]:
    waiting = [(node, names)]
    while waiting:
        node, names = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = _inside(node, names)
        yield node, names
        waiting += [(child, names) for child in reversed(list(ast.iter_child_nodes(node)))]


def _inside(function: ast.FunctionDef | ast.AsyncFunctionDef, names: Names) -> Names:
    """The names known in ``function``: those around it that it does not hide, and those that it assigns once."""
    inner = list(ast.walk(function))
    stored = Counter(node.id for node in inner if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    hidden = stored.keys() | {node.arg for node in inner if isinstance(node, ast.arg)}
    own = dict(pair for node in inner for pair in _assigned(node) if stored[pair[0]] == 1)
    return {**{name: one for name, one in names.items() if name not in hidden}, **own}


def _own_names(tree: ast.Module) -> dict[str, ast.expr]:
    own = dict(pair for node in tree.body for pair in _assigned(node))
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name, body=[*_, ast.Return(value=ast.expr() as value)] as body):
                if len(body) - (ast.get_docstring(node) is not None) == 1:
                    own[f"{name}()"] = value
    return own


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value


def _imported(tree: ast.Module) -> dict[str, ast.expr]:
    """Texts that ``tree`` imports from other modules of this project."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        source = trees().get(node.module or "") if isinstance(node, ast.ImportFrom) else None
        if isinstance(node, ast.ImportFrom) and source is not None:
            there = _own_names(source)
            for one in node.names:
                if one.name in there:
                    found[one.asname or one.name] = ast.Constant(text(there[one.name], there))
    return found
