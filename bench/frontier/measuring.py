"""Cells into rows: made, measured, kept; two at a time, each on one thread."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.frontier.cells import Cell, Setting
from bench.frontier.making import TOO_LONG, MakingError, end_running, run_metered
from bench.frontier.rows import Cost, FrontierRow, ImatrixRow, Measured
from bench.frontier.workplace import Workplace
from qpruner_core.sizes import format_bytes


class Measuring:
    """Measures cells in one setting, whose ``rows`` it adds to; ``collecting``: only takes those that are on disk."""

    def __init__(self, setting: Setting, rows: dict[str, FrontierRow], *, collecting: bool = False) -> None:
        self._setting = setting
        self._rows = rows
        self._collecting = collecting
        self._imatrix = Cost()

    def begin(self) -> None:
        """Make the importance matrix, unless it is there."""
        place, amounts = self._setting.place, self._setting.amounts
        kept = place.rows.find(ImatrixRow, "imatrix")
        if self._collecting:
            return
        if kept is None or not place.imatrix.is_file():
            program = str(self._setting.llama / "llama-imatrix")
            command = [program, "-m", str(place.gguf), "-f", str(place.calibration), "-o", str(place.imatrix)]
            command += ["-c", str(amounts.length), "--chunks", str(amounts.sequences), "-t", "1"]
            kept = ImatrixRow(cost=run_metered(command, place.folder / "imatrix.log"))
            place.rows.keep("imatrix", kept)
        self._imatrix = kept.cost

    def run(self, cells: Sequence[Cell], workers: int) -> None:
        """Measure all ``cells``; each comes behind those that it needs."""
        futures: dict[str, Future[None]] = {}
        with ThreadPoolExecutor(workers) as pool:
            for cell in cells:
                before = [futures[name] for name in (cell.against, *cell.needs) if name in futures]
                futures[cell.name] = pool.submit(self._cell, cell, before)
            try:
                for future in futures.values():
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                end_running()
                raise

    def _cell(self, cell: Cell, before: Sequence[Future[None]]) -> None:
        for future in before:
            future.result()
        missing = [name for name in (cell.against, *cell.needs) if name and not self._measured(name)]
        row = FrontierRow(
            model=self._setting.place.model, name=cell.name, maker=cell.maker.tool, group=cell.group,
            settings=cell.maker.settings, against=cell.against,
            allowed=None if missing else cell.allowed(self._rows),
        )  # fmt: skip
        if missing and self._collecting:
            return
        if missing:
            row.failure = f"there is no row {missing[0]!r}"
        else:
            known = self._setting.place.rows.find(
                FrontierRow, cell.name, settings=row.settings, allowed=row.allowed, maker=row.maker
            )
            if known is None and self._collecting:
                return
            row = known if known is not None and self._stays(known) else self._made(cell, row)
        self._rows[cell.name] = row

    def _stays(self, row: FrontierRow) -> bool:
        """Whether it is not measured again: what failed may have been mended, but takes as long as it did."""
        return self._collecting or not row.failure or row.failure.startswith(TOO_LONG)

    def _measured(self, name: str) -> bool:
        return name in self._rows and not self._rows[name].failure

    def _made(self, cell: Cell, row: FrontierRow) -> FrontierRow:
        place = self._setting.place
        target = place.made / f"{file_name(cell.name)}{'.gguf' if cell.kind == 'gguf' else ''}"
        try:
            row.cost = self._make(cell, target, row.allowed)
            measured = measure_apart(cell.kind, target, place)
            row.bytes, row.texts, row.types = measured.bytes, measured.texts, measured.types
        except MakingError as error:
            row.failure = str(error)
        place.rows.keep(cell.name, row)
        _remove(target)
        print(line(row), flush=True)
        return row

    def _make(self, cell: Cell, target: Path, allowed: int | None) -> Cost:
        limit = self._setting.amounts.limit if cell.limited else 0
        cost = self._imatrix if cell.imatrix else Cost()
        _remove(target)
        for number, command in enumerate(cell.maker.commands(self._setting, target, allowed)):
            cost += run_metered(command, target.with_name(f"{target.stem}.{number}.log"), limit)
        return cost


def measure_apart(kind: str, checkpoint: Path, place: Workplace) -> Measured:
    """The figures of ``checkpoint``, measured in a process of its own.

    Raises:
        MakingError: it cannot be read.
    """
    output = checkpoint.with_name(f"{checkpoint.stem}.measured")
    arguments = [kind, str(checkpoint), str(place.folder), str(output)]
    command = [sys.executable, "-m", "bench.frontier.evaluate", *arguments]
    run_metered(command, checkpoint.with_name(f"{checkpoint.stem}.evaluate.log"))
    return Measured.model_validate_json(output.read_bytes())


def file_name(name: str) -> str:
    """``name`` as that of a file."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def line(row: FrontierRow) -> str:
    """``row`` for whoever watches."""
    now = time.strftime("%H:%M:%S")
    if row.failure:
        return f"{now} {row.model}, {row.name}: {row.failure}"
    figures = ", ".join(f"KL {one.divergence:.4f} on {name}" for name, one in row.texts.items())
    return (
        f"{now} {row.model}, {row.name}: {format_bytes(row.bytes)}, {figures}, {row.cost.cpu_seconds:.0f} CPU-seconds"
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    shutil.rmtree(path.with_suffix(".work"), ignore_errors=True)
