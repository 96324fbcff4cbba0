"""What every format of the result can do."""

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
    """What the words about a checkpoint depend on: the family's name, whether stock classes cannot build its layers
    (``own_code``), the bytes of the pruned model in 16 bits, the largest rank of the adapter that ships beside it
    (0: none does), what its engine computes on, and whether vLLM builds such layers itself (``deci``)."""

    architecture: str
    own_code: bool
    dense_bytes: int
    adapter_rank: int = 0
    runs_on: RunsOn = DEFAULT_RUNS_ON
    deci: bool = False


class ExportFormat(ABC):
    """One format: how it is written, read back and described.

    ``output`` is always the directory that all formats of a run are written to, so that a format may go with another,
    as an adapter with its base.
    """

    name: str

    @property
    def declaration(self) -> FormatDeclaration:
        """What is known of it without torch."""
        return declared(self.name)

    def place(self, output: Path) -> Path:
        """Its directory or file in ``output``."""
        return output / self.declaration.place

    @abstractmethod
    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        """Write it to ``place(output)``, from the finished stages before export; the same bytes whenever it is called.
        ``max_shard_size``: bytes of the largest weight file, where a format can be divided."""

    @abstractmethod
    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        """What :meth:`write` wrote, as a causal language model in eval mode that computes what its engine computes."""

    @abstractmethod
    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        """The few lines that run it from the output directory, for each tool that does, the best one first."""

    @abstractmethod
    def description(self, facts: CheckpointFacts) -> str:
        """What the model card says above the snippets: sentences in Markdown."""

    def held_bytes(self, output: Path, model: nn.Module) -> int:
        """Bytes that its engine keeps of it in memory; ``model``: as :meth:`load` gave it. What is held against the
        budget."""
        return loaded_bytes(model)

    def engine_speed(self, output: Path, new_tokens: int, *, gpu: bool, look: Callable[[], None]) -> Speed | None:
        """How fast its engine generates ``new_tokens`` from it; ``None`` where none is installed or known. ``look`` is
        called meanwhile, and ends the measurement by what it raises.

        Raises:
            EngineFailedError: the engine is installed, and could not be measured.
        """
        return None

    def file_bytes(self, output: Path) -> int:
        """Bytes of its files."""
        place = self.place(output)
        files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files)
