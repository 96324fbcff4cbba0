"""Every error code: its meaning, HTTP status, exit code, and its remedies in the code."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

import app
import qpruner_core
import worker
from app.problems import from_core_error
from qpruner_core import errors as core
from qpruner_core.errors import BudgetInfeasibleError, QPrunerError

_INTRODUCTION = (
    "# Error codes\n\nOver HTTP an error is an `application/problem+json` document (RFC 9457) with a stable "
    "`code`, the invalid `field` and\na `remedy`. A failed job has the same three in `error`. The command line "
    "prints them and exits with the exit code. In a\nremedy that depends on the request, `…` stands for the "
    "inserted value."
)


@dataclass
class Entry:
    """A code of the reference."""

    meaning: str = ""
    status: int | None = None
    exit_code: int | None = None
    remedies: list[str] = field(default_factory=list)


def render() -> str:
    """The page in Markdown."""
    _load_kinds()
    entries: dict[str, Entry] = defaultdict(Entry)
    for kind in _kinds(QPrunerError):
        if "code" not in vars(kind):
            continue  # its parent has the entry
        meaning = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        entries[kind.code] = Entry(meaning, _status(kind), kind.exit_code)
    for call in _calls():
        _add(entries, call)
    lines = [_INTRODUCTION]
    for code, entry in sorted(entries.items()):
        status = f"HTTP {entry.status}" if entry.status else ""
        exit_code = f"exit code {entry.exit_code}" if entry.exit_code else ""
        lines += [f"## `{code}`\n", f"{entry.meaning} *{', '.join(filter(None, (status, exit_code)))}*\n"]
        lines += [f"- {remedy}" for remedy in dict.fromkeys(entry.remedies)] + [""]
    return "\n".join(lines)


def _kinds(kind: type[QPrunerError]) -> Iterator[type[QPrunerError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__.split(".")[0] in ("qpruner_core", "app", "worker"):
            yield from _kinds(below)


def _status(kind: type[QPrunerError]) -> int:
    error = kind("", smallest_feasible_bytes=0) if issubclass(kind, BudgetInfeasibleError) else kind("")
    return from_core_error(error).status_code


def _calls() -> Iterator[ast.Call]:
    for tree in _trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node


def _load_kinds() -> None:
    """Import every module with error codes, so that the page does not depend on earlier imports."""
    for name, tree in _trees().items():
        classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name.endswith("Error"))
        if any(_has_code(one) for one in classes):
            import_module(name)


def _has_code(node: ast.ClassDef) -> bool:
    return any(
        isinstance(line, ast.Assign) and isinstance(target, ast.Name) and target.id == "code"
        for line in node.body
        for target in getattr(line, "targets", ())
    )


@cache
def _trees() -> dict[str, ast.Module]:
    """Every module of this project by name, parsed."""
    found = {}
    for package in (qpruner_core, app, worker):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def _add(entries: dict[str, Entry], call: ast.Call) -> None:
    assert isinstance(call.func, ast.Name)
    name = call.func.id
    remedy = next((_text(one.value) for one in call.keywords if one.arg == "remedy"), "")
    if name == "Problem" and len(call.args) >= 3 and isinstance(call.args[1], ast.Constant):
        status, code, detail = call.args[0], str(call.args[1].value), _text(call.args[2])
        entry = entries[code]
        entry.meaning = entry.meaning or detail
        entry.status = entry.status or (status.value if isinstance(status, ast.Constant) else None)  # type: ignore[assignment]
    elif isinstance(kind := getattr(core, name, None), type) and issubclass(kind, QPrunerError):
        entry = entries[kind.code]
    else:
        return
    if remedy:
        entry.remedies.append(remedy)


def _text(node: ast.expr) -> str:
    """A string of the code, with ``…`` in place of inserted values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return " / ".join(filter(None, (_text(node.body), _text(node.orelse))))
    return ""
