"""Memory of recovery, of models with the very shapes and precisions of the rows, whatever has become of their files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bench.paper.measured import loaded_size
from bench.paper.methods import METHODS, Setup
from bench.paper.recovery_memory import Recovery, peak_of
from bench.paper.rows import MemoryRow, PaperRow
from bench.paper.run import Cell, PaperRun, folder_of
from bench.paper.stages import StageRunner
from qpruner_core.adapters import adapter_name, write_adapter
from qpruner_core.config import CompressionConfig
from qpruner_core.mixed.groups import embedding_names, precision_by_module, precision_groups
from qpruner_core.mixed.mixed_model import MixedPrecision, encode, write_mixed_model
from qpruner_core.models import load_model
from qpruner_core.models.families import family_of, linear_shape
from qpruner_core.precision_names import UNQUANTIZED
from qpruner_core.precisions import Tensors
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.registry import bind_target

_PROC = Path("/proc/self")


class MemoryComparison:
    """Of the rows of ``cell``; ``setup``: of the run."""

    def __init__(self, run: PaperRun, setup: Setup, cell: Cell) -> None:
        self._run, self._setup, self._cell = run, setup, cell

    def rows(self, rows: Sequence[PaperRow]) -> list[MemoryRow]:
        """One for each of ``rows``, measured unless it was before; empty where it cannot be measured or is not to."""
        if not _PROC.is_dir() or self._run.amounts.memory_steps == 0:
            return []
        return [found for row in rows if (found := self._row(row)) is not None]

    def _row(self, row: PaperRow) -> MemoryRow | None:
        amounts = self._run.amounts
        name = f"memory of {row.name}"
        key = f"{row.config} {amounts.memory_steps} x {amounts.batch_size} x {amounts.length}, given back at once"
        found = self._run.rows.find(MemoryRow, name, config=key)
        if found is None and not self._run.collecting:
            folder = self._cell.folder / "memory"
            model, adapter = self._rebuilt(row, folder)
            kept = Recovery(
                model, adapter, self._run.source.directory if row.teacher else None, quantized=True,
                steps=amounts.memory_steps, batch_size=amounts.batch_size, length=amounts.length,
            )  # fmt: skip
            found = MemoryRow(
                name=name, config=key, method=row.method, ratio=row.ratio, kept=peak_of(kept),
                recomputed=peak_of(replace(kept, recompute=True)),
            )  # fmt: skip
            shutil.rmtree(folder)
            self._run.rows.keep(found.name, found)
        return found

    def _rebuilt(self, row: PaperRow, folder: Path) -> tuple[Path, Path]:
        """A model pruned as that of ``row`` was, its modules rounded as its were, and adapters that change nothing."""
        method = next(method for method in METHODS if method.name == row.method)
        budget = self._run.budget(self._setup, method, row.ratio)
        config = self._setup.config(method, row.ratio, row.seed, budget)
        stages = StageRunner(self._cell.folder).run(folder_of(method), config, "prune")
        model, adapter = write_rounded(stages.work / "prune" / "model", config, row.precisions, folder)
        size = loaded_size(model, adapter)
        assert size == row.bytes, f"{row.name} has {row.bytes} bytes, its model made anew {size}"
        return model, adapter


def write_rounded(
    pruned: Path, config: CompressionConfig, precisions: Sequence[str], folder: Path
) -> tuple[Path, Path]:
    """The model ``pruned`` with its groups by ``config`` at ``precisions``, and an adapter of zeros, in ``folder``."""
    model = load_model(pruned)
    family = family_of(model)
    target = bind_target(config.target, config.quantize, config.allocate)
    by_module = precision_by_module(precision_groups(model, family, target), precisions)
    outside = set(embedding_names(model).values())
    factors: Tensors = {}
    for name in by_module.keys() - outside:
        outputs, inputs = linear_shape(model.get_submodule(name))
        factors[adapter_name(name, "A")] = torch.zeros(config.quantize.lora_rank, inputs, dtype=torch.bfloat16)
        factors[adapter_name(name, "B")] = torch.zeros(outputs, config.quantize.lora_rank, dtype=torch.bfloat16)
    stored = {name: kind for name, kind in by_module.items() if name not in outside or kind != UNQUANTIZED}
    precision = MixedPrecision.of(stored, config.quantize)
    tensors = encode(model, precision)
    write_mixed_model(folder / "model", model.config, precision, tensors, family)
    targets = family.adapted
    write_adapter(folder / "adapter", factors, QuantizeConfig(lora_rank=config.quantize.lora_rank), targets)
    return folder / "model", folder / "adapter"
