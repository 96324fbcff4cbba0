"""The folders of the core import each other in one direction.

A folder is a node, and so is each module beside the folders. Settings and declarations (``config.py`` and
``declarations.py`` of every folder, without torch) are read everywhere and are one node below all others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import qpruner_core
from qpruner_core.events import STAGES

_ROOT = Path(qpruner_core.__file__).parent
_PACKAGE = "qpruner_core"
_SETTINGS = "settings"


def _node(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts:
        return _PACKAGE
    return _SETTINGS if parts[-1] in ("config", "declarations") and len(parts) > 1 else parts[0]


def _for_types_only(tree: ast.AST) -> set[ast.AST]:
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def _imports(path: Path) -> Iterator[str]:
    """Modules of the core that a file imports when it runs, wherever in the file."""
    tree = ast.parse(path.read_text())
    ignored = _for_types_only(tree)
    for node in ast.walk(tree):
        if node in ignored:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_PACKAGE):
            assert node.module is not None
            for name in node.names:
                whole = _ROOT.joinpath(*node.module.split(".")[1:], name.name)
                yield f"{node.module}.{name.name}" if whole.with_suffix(".py").is_file() else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith(_PACKAGE))


@cache
def _edges() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for path in _ROOT.rglob("*.py"):
        parts = path.relative_to(_ROOT).with_suffix("").parts
        node = _node(".".join([_PACKAGE, *(part for part in parts if part != "__init__")]))
        edges.setdefault(node, set()).update(other for other in map(_node, _imports(path)) if other != node)
    return edges


def test_no_folder_imports_one_that_imports_it() -> None:
    try:
        TopologicalSorter(_edges()).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    """What several stages use lies in the libraries beside them."""
    assert not _edges()[stage] & (set(STAGES) - {stage})
