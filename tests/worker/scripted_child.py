"""The real child process around a pipeline that a test directs through files in a folder.

``<stage>.hold``: the stage waits until the file is gone. ``<stage>.sleep``: it takes so many seconds. ``<stage>.eat``:
it takes as many bytes of memory and sleeps. ``<stage>.fill``: its file has so many bytes more. ``<stage>.print``: it
prints the text of the file. ``<stage>.crash``: it kills its process. ``<stage>.raise``: it raises the error named in
the file. ``<stage>.told``: written as it begins. Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import qpruner_core
import worker.child
from qpruner_core import CompressionConfig, CompressionReport, errors
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.events import (
    STAGES,
    EventCallback,
    MachineSpeedKnown,
    MetricRecorded,
    StageFinished,
    StageName,
    StageProgress,
    StageStarted,
    TimesExpected,
    TrialRecorded,
)
from qpruner_core.search.known_trials import KnownTrials
from qpruner_core.speed.record import SpeedRecord
from qpruner_core.stage_store import StageFinder, StageStore
from tests.made_up_speed import made_up_speed

DIRECTIONS = Path(sys.argv[1])


def compress(
    config: CompressionConfig,
    output: Path,
    *,
    work_dir: Path,
    on_event: EventCallback,
    find_stage: StageFinder,
    **_: Any,
) -> CompressionReport:
    """Seven stages of one small file each, and two checkpoints made from them."""
    store = StageStore(work_dir, find_stage)
    on_event(MachineSpeedKnown(record=SpeedRecord(speed=made_up_speed()).model_dump(mode="json")))
    on_event(TimesExpected(seconds=dict.fromkeys(STAGES, 2.5)))
    print("a library's chatter on standard output", flush=True)
    os.system("echo and that of a program it runs")
    for stage in STAGES:
        _stage(store, stage, config, on_event)
    for checkpoint in ("mixed", "merged"):
        (output / checkpoint).mkdir(parents=True)
        content = b"".join((work_dir / stage / "data.bin").read_bytes() for stage in STAGES)
        (output / checkpoint / "model.safetensors").write_bytes(content)
    (output / "report.json").write_text("{}")
    return CompressionReport(
        model=config.model, revision=None, dataset=config.dataset, memory_budget=config.memory_budget,
        seed=config.seed, prune_ratio=0.0, groups=[], precisions=[], widths=[], predicted_bytes=1, measurements=[],
        stage_seconds={}, warnings=[], files=[],
    )  # fmt: skip


def _stage(store: StageStore, stage: StageName, config: CompressionConfig, on_event: EventCallback) -> None:
    record = store.load(stage, _key(stage, config))
    resumed = record is not None
    if record is None:
        on_event(StageStarted(stage=stage))
        if (printing := DIRECTIONS / f"{stage}.print").exists():
            print(printing.read_text(), file=sys.stderr, flush=True)
        (DIRECTIONS / f"{stage}.told").touch()
        _obey(stage)
        for step in range(20):
            on_event(StageProgress(stage=stage, fraction=(step + 1) / 20))
            on_event(MetricRecorded(name=f"{stage}.loss", step=step, value=1 / (step + 1)))
        if stage == "allocate":
            _search(store, config, on_event)
        with store.begin(stage) as partial:
            (partial / "data.bin").write_bytes(f"{stage} {config.seed}\n".encode() * 1000 + _filling(stage))
            record = store.commit(stage, _key(stage, config), partial, {"stage": stage}, 0.1)
    on_event(
        StageFinished(
            stage=stage, key=record.key, directory=str(store.directory(stage)), files=record.files,
            summary=record.summary, seconds=record.seconds, resumed=resumed,
        )
    )  # fmt: skip


def _search(store: StageStore, config: CompressionConfig, on_event: EventCallback) -> None:
    """Four trials at most; writes which of them it had to measure."""
    known = KnownTrials.of(store, config)
    measured = []
    for index in range(min(config.allocate.trials, 4)):
        precisions = ["nf4", f"p{index}"]
        trial = known.find(precisions)
        loss = trial.loss if trial else (index + 1) / 3
        if trial is None:
            measured.append(index)
            known.remember(precisions, loss)
        on_event(TrialRecorded(index=index, origin="uniform", precisions=precisions, bytes=10, loss=loss))
    (DIRECTIONS / f"measured.{config.memory_budget}").write_text(str(measured))


def _key(stage: StageName, config: CompressionConfig) -> str:
    """As in the real pipeline with a ratio given: what comes before the search knows neither budget nor search."""
    if stage in ("prune", "score"):
        config = config.model_copy(update={"memory_budget": 1, "allocate": AllocateConfig()})
    return hashlib.sha256(f"{stage} {config.digest()}".encode()).hexdigest()


def _filling(stage: StageName) -> bytes:
    filling = DIRECTIONS / f"{stage}.fill"
    return bytes(int(filling.read_text())) if filling.exists() else b""


def _obey(stage: StageName) -> None:
    while (DIRECTIONS / f"{stage}.hold").exists():
        time.sleep(0.02)
    if (sleeping := DIRECTIONS / f"{stage}.sleep").exists():
        time.sleep(float(sleeping.read_text()))
    if (DIRECTIONS / f"{stage}.crash").exists():
        print("Killed by the test", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if (eating := DIRECTIONS / f"{stage}.eat").exists():
        eaten = bytearray(int(eating.read_text()))
        eaten[:: 2**12] = bytes(1) * len(eaten[:: 2**12])  # every page is touched
        time.sleep(30)
    if (raising := DIRECTIONS / f"{stage}.raise").exists():
        raise getattr(errors, raising.read_text())("It cannot be done.", field="dataset", remedy="Do another.")


if __name__ == "__main__":
    qpruner_core.compress = compress
    sys.exit(worker.child.main())
