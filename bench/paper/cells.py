"""Measuring the cells of a run, one after another or several beside each other."""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

import torch
from pydantic import BaseModel

from bench.paper.making import make_run
from bench.paper.memory_comparison import MemoryComparison
from bench.paper.methods import Setup
from bench.paper.progress import Progress, duration
from bench.paper.rows import MemoryRow, PaperRow, SearchRow, SpeedRow
from bench.paper.run import Cell, PaperRun
from bench.paper.search_comparison import SearchComparison
from qpruner_core.allocate.trial_workers import end_with_parent


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


def measure_beside_each_other(options: argparse.Namespace, run: PaperRun, setup: Setup, workers: int) -> None:
    """Leave the figures of all cells of ``run``, made of ``options``, on disk, each measured by one of ``workers``
    processes, with as many threads as this one has. The first failure ends all of them."""
    started = time.perf_counter()
    waiting = list(run.cells())
    count, context = len(waiting), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin_worker, (torch.get_num_threads(),)) as pool:
        running: set[Future[None]] = set()
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    running.add(pool.submit(_measure_in_worker, options, setup, waiting.pop(0)))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                passed = duration(time.perf_counter() - started)
                print(f"{count - len(waiting) - len(running)} of {count} cells done after {passed}", flush=True)
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _measure_in_worker(options: argparse.Namespace, setup: Setup, cell: Cell) -> None:
    run, _ = make_run(options)
    run.progress = Progress(None)
    measure_cell(run, setup, cell)
