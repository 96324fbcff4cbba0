"""What the benchmark makes: each cell is one checkpoint and how it comes about."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.frontier.amounts import Amounts
from bench.frontier.given_types import settings_for, tensor_type_lines
from bench.frontier.rows import FrontierRow, Kind
from bench.frontier.workplace import Workplace

Rows = Mapping[str, FrontierRow]
Command = list[str]
Budget = Callable[[Rows], int]
OURS, LLAMA = "ours", "llama-quantize, imatrix"


@dataclass(frozen=True)
class Setting:
    """What makers are given: the model's files, how much is done, where programs are, and the rows so far."""

    place: Workplace
    amounts: Amounts
    llama: Path
    pythons: Mapping[str, Path]
    rows: Rows


class Maker(Protocol):
    """``tool``: its name on the page. ``settings``: what a row is known by, with its name, when a run is resumed."""

    @property
    def tool(self) -> str: ...

    @property
    def settings(self) -> str: ...

    def commands(self, setting: Setting, target: Path, allowed: int | None) -> Sequence[Command]:
        """The programs that write the checkpoint ``target``, of at most ``allowed`` bytes, in order."""


@dataclass(frozen=True)
class Cell:
    """``against``: the row whose bytes are asked for; ``budget`` says how many, by default as many. ``needs``: rows
    that must exist before. ``imatrix``: whether llama.cpp's importance matrix is in its cost. ``limited``:
    whether it must end within the limit of a rival."""

    name: str
    group: str
    kind: Kind
    maker: Maker
    against: str = ""
    budget: Budget | None = None
    needs: tuple[str, ...] = ()
    imatrix: bool = False
    limited: bool = False

    def allowed(self, rows: Rows) -> int | None:
        """The bytes that it may take."""
        if self.budget is not None:
            return self.budget(rows)
        return rows[self.against].bytes if self.against else None


@dataclass(frozen=True)
class LlamaQuantize:
    """``llama-quantize`` with the importance matrix; ``types_of``: with the types of the tensors of that row's file."""

    type: str
    types_of: str = ""
    tool: str = "llama-quantize"

    @property
    def settings(self) -> str:
        """The type, and whose types tensors have."""
        return f"--imatrix, {self.type}{self.types_of and f', types of {self.types_of}'}"

    def commands(self, setting: Setting, target: Path, allowed: int | None) -> Sequence[Command]:
        """See :class:`Maker`."""
        options = ["--imatrix", str(setting.place.imatrix)]
        if self.types_of:
            types = setting.rows[self.types_of].types
            file = target.with_suffix(".types")
            file.write_text(tensor_type_lines(types), encoding="utf-8")
            options += ["--tensor-type-file", str(file), "--token-embedding-type", types["token_embd.weight"]]
        return [[str(setting.llama / "llama-quantize"), *options, str(setting.place.gguf), str(target), self.type, "1"]]


@dataclass(frozen=True)
class Ours:
    """Ours by its defaults, with what ``values`` change; ``types_of``: with the types of the tensors of that row."""

    target: str
    values: Mapping[str, Any] = field(default_factory=dict)
    types_of: str = ""
    tool: str = "ours"

    @property
    def settings(self) -> str:
        """What differs from the defaults."""
        said = json.dumps(self.values, sort_keys=True) if self.values else "defaults"
        return f"target {self.target}, {said}{self.types_of and f', types of {self.types_of}'}"

    def commands(self, setting: Setting, target: Path, allowed: int | None) -> Sequence[Command]:
        """See :class:`Maker`."""
        values = our_config(setting, self, allowed)
        if self.types_of:
            values |= settings_for(setting.rows[self.types_of].types, setting.place.gguf)
        file = target.with_suffix(".json")
        file.write_text(json.dumps(values), encoding="utf-8")
        return [[sys.executable, "-m", "bench.frontier.make_ours", str(file), str(target)]]


def our_config(setting: Setting, ours: Ours, allowed: int | None) -> dict[str, Any]:
    """The config of a run of ``ours``, as JSON: no pruning and no recovery unless it says so."""
    sequences = {"calibration_sequences": setting.amounts.sequences}
    common: dict[str, Any] = {
        "model": str(setting.place.dense),
        "dataset": str(setting.place.calibration),
        "target": ours.target,
        "memory_budget": allowed,
        "sequence_length": setting.amounts.length,
        "prune": {"ratio": 0.0, **sequences},
        "finetune": {"steps": 0},
        "evaluate": {"max_tokens": 1024, "generated_tokens": 8},
    }
    for stage, values in ours.values.items():
        common[stage] = {**common.get(stage, {}), **values} if isinstance(values, Mapping) else values
    return common


@dataclass(frozen=True)
class Rival:
    """A tool in an environment of its own; ``script``: of :mod:`bench.frontier.rivals`, which reads ``values``."""

    environment: str
    script: str
    values: Mapping[str, Any]
    version: str = ""

    @property
    def tool(self) -> str:
        """The tool's name on PyPI."""
        return self.environment

    @property
    def settings(self) -> str:
        """What the script is given."""
        return ", ".join(f"{key} {value}" for key, value in self.values.items())

    def commands(self, setting: Setting, target: Path, allowed: int | None) -> Sequence[Command]:
        """See :class:`Maker`."""
        file = target.with_suffix(".json")
        given = {
            "model": str(setting.place.dense), "sequences": str(setting.place.sequences), "output": str(target),
            "text": str(setting.place.calibration), "length": setting.amounts.length, **self.values,
        }  # fmt: skip
        file.write_text(json.dumps(given), encoding="utf-8")
        script = Path(__file__).parent / "rivals" / f"{self.script}.py"
        return [[str(setting.pythons[self.environment]), str(script), str(file)]]
