"""The documents say nothing that is not true today, as far as a test can tell."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from app.cli import app as commands
from app.main import create_app
from app.settings import Settings
from qpruner_core.config import parse_config

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "benchmarks" not in path.parts),
]
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
HISTORY = {"decisions.md"}  # dated notes of what was
RELATIVE_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


def code_lines(path: Path) -> Iterator[str]:
    """Lines of fenced blocks, without comments, with continued lines joined."""
    for block in re.findall(r"^ *```[^\n]*\n(.*?)^ *```", path.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield re.split(r"\s#\s", line.strip())[0].strip()


def make_targets(path: Path) -> set[str]:
    """Targets of ``make`` that a document names, in blocks and in text."""
    lines = [line for line in code_lines(path) if line.startswith("make ")]
    words = [line.split()[1] for line in lines]
    return {word for word in (*words, *re.findall(r"`make ([a-z][\w-]*)", path.read_text())) if "=" not in word}


def invocations(path: Path) -> Iterator[list[str]]:
    """Words of every call of ``qpruner`` in a document's blocks."""
    for line in code_lines(path):
        for part in re.split(r"\s*(?:&&|\|\||;)\s*", line):
            if re.match(r"(?:\S*/)?qpruner\s", part):
                call = re.sub(r"[\[\]]", "", part.replace("…", "x"))
                yield shlex.split(re.sub(r"\(.*?\)", "", call))[1:]


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_make_target_named_exists(path: Path) -> None:
    there = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M))
    assert make_targets(path) - there == set()


def test_make_targets_are_found_in_the_readme() -> None:
    assert {"demo", "serve"} <= make_targets(ROOT / "README.md")


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name not in HISTORY], ids=lambda path: path.name)
def test_every_command_and_option_named_exists(path: Path) -> None:
    root = typer.main.get_command(commands)
    for words in invocations(path):
        command: click.Command = root  # type: ignore[assignment]
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
        named = {word.split("=")[0] for word in words if word.startswith("--")}
        assert command is not root or named <= {"--version", "--help"}, words
        assert named <= options, words


def test_calls_are_found_in_the_documents() -> None:
    found = [words[0] for path in DOCUMENTS for words in invocations(path)]
    assert {"compress", "estimate", "evaluate", "generate", "export", "front", "serve", "worker", "migrate"} <= set(
        found
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = RELATIVE_LINK.findall(re.sub(r"```.*?```", "", path.read_text(), flags=re.S))
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name not in HISTORY], ids=lambda path: path.name)
def test_every_body_of_a_job_is_valid(path: Path) -> None:
    for body in re.findall(r"/jobs -H [^{`]*-d '(\{.*?\})'", path.read_text(), re.S):
        parse_config(json.loads(body))


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name not in HISTORY], ids=lambda path: path.name)
def test_every_setting_of_the_service_named_exists(path: Path) -> None:
    known = {f"QPRUNER_{name.upper()}" for name in Settings.model_fields}
    outside = {"QPRUNER_TEST_LLAMA_CPP", "QPRUNER_TEST_VLLM", "QPRUNER_TEST_REDOCLY"}  # of the tests
    outside |= {"QPRUNER_SERVER", "QPRUNER_API_KEY", "QPRUNER_SERVERS_FILE"}  # of commands about services
    assert set(re.findall(r"\bQPRUNER_[A-Z0-9_]*[A-Z0-9]\b", path.read_text())) - known - outside == set()


def test_every_request_named_exists(tmp_path: Path) -> None:
    paths = create_app(Settings(data_dir=tmp_path, _env_file=None)).openapi()["paths"]  # type: ignore[call-arg]
    known = {f"{method.upper()} {re.sub(r'{.*?}', '{}', path)}" for path, ways in paths.items() for method in ways}
    for document in DOCUMENTS:
        if document.name not in HISTORY:
            named = re.findall(r"`(GET|POST|PUT|DELETE|PATCH) (/[^`?\s]*)", document.read_text())
            said = {f"{method} {re.sub(r'{.*?}|(job|ds)_…', '{}', path)}" for method, path in named}
            assert said - known == set(), document
