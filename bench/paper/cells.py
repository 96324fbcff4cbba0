"""Measuring the cells of a run, one after another or several beside each other."""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch
from pydantic import BaseModel

from bench.paper.making import make_run
from bench.paper.memory_comparison import MemoryComparison
from bench.paper.methods import Setup
from bench.paper.rows import MemoryRow, PaperRow, SearchRow
from bench.paper.run import Cell, PaperRun
from bench.paper.search_comparison import SearchComparison
from qpruner_core.allocate.trial_workers import end_with_parent


class CellFigures(BaseModel):
    """All that was measured in a cell; memory and searches only where they belong to it."""

    rows: list[PaperRow]
    memory: list[MemoryRow] = []
    searches: list[SearchRow] = []


def measure_cell(run: PaperRun, setup: Setup, cell: Cell) -> CellFigures:
    """The figures of ``cell``, those that exist taken from disk; its folder goes."""
    found = CellFigures(rows=run.cell_rows(setup, cell))
    if cell.seed == 0:
        found.memory = MemoryComparison(run, setup, cell).rows(found.rows)
    if (cell.ratio, cell.seed) == (run.amounts.search_ratio, 0):
        found.searches = SearchComparison(run, setup, cell).rows()
    if not run.collecting:
        shutil.rmtree(cell.folder, ignore_errors=True)
    return found


def measure_beside_each_other(options: argparse.Namespace, run: PaperRun, setup: Setup, workers: int) -> None:
    """Leave the figures of all cells of ``run``, made of ``options``, on disk, each measured by one of ``workers``
    processes, with as many threads as this one has. The first failure ends all of them."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin_worker, (torch.get_num_threads(),)) as pool:
        running = [pool.submit(_measure_in_worker, options, setup, cell) for cell in run.cells()]
        try:
            for number, future in enumerate(as_completed(running), start=1):
                future.result()
                print(f"{number} of {len(running)} cells done", flush=True)
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _measure_in_worker(options: argparse.Namespace, setup: Setup, cell: Cell) -> None:
    run, _ = make_run(options)
    measure_cell(run, setup, cell)
