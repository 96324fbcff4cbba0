"""Interface of an export format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from qpruner_core.formats.declarations import FormatDeclaration, declared
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.measure.speed import Speed
from qpruner_core.report import Snippet
from qpruner_core.stage import StageContext
from qpruner_core.targets.config import DEFAULT_RUNS_ON, RunsOn


@dataclass(frozen=True)
class CheckpointFacts:
    """Facts for the description of a checkpoint.

    The family's name, whether stock classes cannot build its layers (``own_code``), bytes of the pruned model in 16
    bits, largest rank of the shipped adapter (0: none), hardware of the engine, and whether vLLM builds such layers
    itself (``deci``).
    """

    architecture: str
    own_code: bool
    dense_bytes: int
    adapter_rank: int = 0
    runs_on: RunsOn = DEFAULT_RUNS_ON
    deci: bool = False


class ExportFormat(ABC):
    """One format: how it is written, read back and described.

    ``output`` is the directory of all formats of a run, so that a format can refer to another, as an adapter to its
    base.
    """

    name: str

    @property
    def declaration(self) -> FormatDeclaration:
        """Its declaration, which needs no torch."""
        return declared(self.name)

    def place(self, output: Path) -> Path:
        """Its directory or file in ``output``."""
        return output / self.declaration.place

    @abstractmethod
    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        """Write it to ``place(output)`` from the finished stages before export. Deterministic. ``max_shard_size``:
        bytes of the largest weight file, for formats that can be split."""

    @abstractmethod
    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        """Read back the result of :meth:`write`: a causal language model in eval mode that computes the same as its
        engine."""

    @abstractmethod
    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        """Commands or code to run it from the output directory, one per tool, the best one first."""

    @abstractmethod
    def description(self, facts: CheckpointFacts) -> str:
        """Text above the snippets in the model card: sentences in Markdown."""

    def held_bytes(self, output: Path, model: nn.Module) -> int:
        """Bytes that its engine keeps in memory, which the budget limits; ``model``: the result of :meth:`load`."""
        return loaded_bytes(model)

    def engine_speed(self, output: Path, new_tokens: int, *, gpu: bool, look: Callable[[], None]) -> Speed | None:
        """Speed of its engine for ``new_tokens``; ``None`` if no engine is installed or known.

        ``look`` is called several times per second; an exception that it raises ends the measurement.

        Raises:
            EngineFailedError: the engine is installed, but the measurement failed.
        """
        return None

    def file_bytes(self, output: Path) -> int:
        """Bytes of its files."""
        place = self.place(output)
        files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files)
