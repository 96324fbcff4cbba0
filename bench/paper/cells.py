"""Measuring the cells of a run, one after another or several beside each other."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch
from pydantic import BaseModel

from bench.paper.memory_comparison import MemoryComparison
from bench.paper.methods import Setup
from bench.paper.progress import Progress, duration
from bench.paper.rows import MemoryRow, PaperRow, SearchRow, SpeedRow
from bench.paper.run import Cell, PaperRun
from bench.paper.search_comparison import SearchComparison


class CellFigures(BaseModel):
    """All that was measured in a cell; memory, searches and speed only where they belong to it."""

    rows: list[PaperRow]
    memory: list[MemoryRow] = []
    searches: list[SearchRow] = []
    speed: SpeedRow | None = None


def measure_cell(run: PaperRun, setup: Setup, cell: Cell) -> CellFigures:
    """The figures of ``cell``, those that exist taken from disk; its folder goes."""
    found = CellFigures(rows=run.cell_rows(setup, cell))
    if cell.seed == 0:
        found.memory = MemoryComparison(run, setup, cell).rows(found.rows)
    if (cell.ratio, cell.seed) == (run.amounts.search_ratio, 0):
        comparison = SearchComparison(run, setup, cell)
        found.searches, found.speed = comparison.rows(), comparison.speed()
    if not run.collecting:
        shutil.rmtree(cell.folder, ignore_errors=True)
    return found


def measure_beside_each_other(make_run: Callable[[], PaperRun], run: PaperRun, setup: Setup, workers: int) -> None:
    """Leave the figures of all cells on disk, each measured by one of ``workers`` processes; ``make_run``: makes
    ``run`` in such a process, and can be sent to it. Each computes with as many threads as this one does."""
    started = time.perf_counter()
    cells = list(run.cells())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        waiting = [pool.submit(_measure_in, make_run, setup, cell) for cell in cells]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                passed = time.perf_counter() - started
                print(f"{done} of {len(cells)} runs done after {duration(passed)}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _measure_in(make_run: Callable[[], PaperRun], setup: Setup, cell: Cell) -> None:
    run = make_run()
    run.progress = Progress(None)
    measure_cell(run, setup, cell)
