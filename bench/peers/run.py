"""Measuring peers and ours at the same bytes, on the same tokens, through the same functions."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.peers.ours import Ours
from bench.peers.peer import Calibration, Peer, Quantized
from bench.peers.rows import PeerRow
from bench.peers.stored_bytes import stored_bytes
from bench.peers.time_limit import time_limit
from bench.prune import Evaluation
from bench.row_folder import RowFolder
from bench.tasks import TASKS, read_task
from bench.texts import evaluated_windows, read_texts
from qpruner_core.errors import BudgetInfeasibleError
from qpruner_core.models import load_model, load_tokenizer

_JOINED = 4
"""Documents in a line of calibration text: auto-round leaves out what is shorter than a sequence."""

_FAILURES = (
    ImportError, NotImplementedError, AssertionError, AttributeError, RuntimeError, TypeError, ValueError, TimeoutError,
)  # fmt: skip
"""What a tool raises that cannot run here, or not in time; it gets a row that says so."""


@dataclass(frozen=True)
class Amounts:
    """How much is measured: ``tokens`` of each text and ``examples`` of each task at most; how much calibrates; and the
    seconds ``limit`` of another tool, after which it counts as one that does not run here."""

    tokens: int = 16384
    examples: int = 100
    sequences: int = 8
    length: int = 256
    limit: float = 7200


class Comparison:
    """Rows of the model in the directory ``model``, measured unless ``work`` has them."""

    def __init__(self, model: Path, data: Path | None, amounts: Amounts, work: Path) -> None:
        self._model = model
        self._work = work
        self._limit = amounts.limit
        self._rows = RowFolder(work / "rows")
        texts = read_texts(data)
        tokenizer = load_tokenizer(model)
        self._evaluation = Evaluation(
            texts={
                name: evaluated_windows(tokenizer, text, amounts.tokens, name) for name, text in texts.evaluated.items()
            },
            tasks={
                name: read_task(data / "eval" / f"{file}.jsonl", tokenizer, amounts.examples)
                for name, file in TASKS.items()
            }
            if data is not None
            else {},
        )
        self._calibration = _calibration(next(iter(texts.calibration.values())), amounts, work / "calibration.jsonl")

    def dense(self) -> PeerRow:
        """The row of the model as it is."""
        row = PeerRow(name="dense, 16 bits", tool="none", settings={})
        return self._measured(row, lambda: _dense(self._model), ())

    def peer(self, peer: Peer) -> PeerRow:
        """The row of ``peer``; with ``failure`` if it does not run here."""
        row = PeerRow(name=peer.name, tool=_tool(peer.package), settings=peer.settings)
        return self._measured(row, lambda: self._in_time(peer), _FAILURES)

    def _in_time(self, peer: Peer) -> Quantized:
        with time_limit(self._limit):
            return peer.quantize(self._model, self._calibration)

    def ours(self, ours: Ours, against: PeerRow | None = None) -> PeerRow:
        """The row of ``ours`` in the bytes of ``against``, or in as many as it takes."""
        name = ours.name if against is None else f"{ours.name}, in the bytes of {against.name}"
        allowed = None if against is None else against.bytes
        row = PeerRow(
            name=name, tool=_tool("qpruner"), allowed=allowed,
            settings={key: str(value) for key, value in ours.allocate.items()}
            | {"all": ours.digest(self._model, self._calibration, allowed)},
            against=None if against is None else against.name,
        )  # fmt: skip
        kind = "embeddings" if ours.allocate.get("embeddings", True) else "layers"
        precisions = "".join(map(str, ours.allocate.get("precisions", ())))
        stages = self._work / f"ours-{kind}{precisions}"  # whose scores they share
        return self._measured(
            row, lambda: ours.quantize(self._model, self._calibration, allowed, stages), (BudgetInfeasibleError,)
        )

    def _measured(
        self, row: PeerRow, quantize: Callable[[], Quantized], failures: tuple[type[Exception], ...]
    ) -> PeerRow:
        found = self._rows.find(PeerRow, row.name, tool=row.tool, settings=row.settings)
        if found is not None:
            return found
        started = time.perf_counter()
        try:
            quantized = quantize()
        except failures as error:
            row.failure = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'it says no more'}"
        else:
            row.seconds = time.perf_counter() - started
            row.bytes, row.mean_bits, row.counted = quantized.bytes, quantized.mean_bits, quantized.counted
            row.measures = self._evaluation.measure(quantized.model)
            del quantized
        self._rows.keep(row.name, row)
        gc.collect()
        print(_line(row), flush=True)
        return row


def run_peers(
    model: Path,
    data: Path | None,
    amounts: Amounts,
    work: Path,
    *,
    peers: Sequence[Peer],
    uniform: Sequence[Ours],
    ours: Sequence[Ours],
    known: Sequence[PeerRow] = (),
) -> list[PeerRow]:
    """All rows: the dense model, ``peers``, ``uniform``, then each of ``ours`` in the bytes of each peer.

    Args:
        model: a directory of bfloat16 safetensors, of a family that we support.
        data: folder with ``text/`` and ``eval/``; without it perplexity is of the text that every Python carries.
        work: where rows and finished stages are kept; started again with the same, it goes on where it was. It must
            be another one for another model, data folder or ``amounts``.
        known: rows that were measured elsewhere, of the same model, data and ``amounts``; those of the same settings
            are not measured again.
    """
    for row in known:
        RowFolder(work / "rows").take_over(row.name, row)
    comparison = Comparison(model, data, amounts, work)
    rows = [comparison.dense(), *(comparison.ours(one) for one in uniform)]
    theirs = [comparison.peer(peer) for peer in peers]
    for row in theirs:
        rows.append(row)
        if not row.failure:
            rows += [comparison.ours(one, row) for one in ours]
    return rows


def _calibration(documents: Sequence[str], amounts: Amounts, file: Path) -> Calibration:
    lines = [
        json.dumps({"text": "\n\n".join(documents[first : first + _JOINED])})
        for first in range(0, len(documents), _JOINED)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Calibration(file, amounts.sequences, amounts.length)


def _tool(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package}, not installed"


def _dense(directory: Path) -> Quantized:
    model = load_model(directory)
    return Quantized(model, stored_bytes(model), 16.0, "storages of the loaded model")


def _line(row: PeerRow) -> str:
    if row.failure:
        return f"{row.name}: {row.failure}"
    text, measures = next(iter(row.measures.items()))
    return f"{row.name}: {row.bytes} bytes, perplexity {measures['perplexity']:.2f} on {text}, {row.seconds:.0f} s"
