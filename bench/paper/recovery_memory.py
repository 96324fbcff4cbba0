"""A few steps of recovery, and their peak memory, measured in a process of its own (Linux).

Bytes are from before the model is loaded until after the last step, above what the process still has when all of that
is freed: its libraries, some of which are only loaded with the model. The C library gives freed memory back at once:
what it would keep for later is not needed, is up to a third of the rest, and differs from run to run.
Sequences are random tokens of full length, as none takes more.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.study.memory import MemoryMeter, PhasePeak
from qpruner_core.adapters import attach_adapter
from qpruner_core.data import Example
from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.mixed.mixed_model import load_mixed_model
from qpruner_core.training.batches import Batch, make_batch
from qpruner_core.training.teacher import load_teacher
from qpruner_core.training.training import train

_M_MMAP_THRESHOLD = -3
"""Of ``mallopt``: set, it no longer rises with what is freed."""
_MAPPED_FROM = 2**17
"""Bytes from which memory is got from the kernel, and given back when it is freed."""


@dataclass(frozen=True)
class Recovery:
    """Training of ``adapter`` on ``model`` as the finetune stage does it, on its quantized modules or on modules of
    16-bit values, from the text or from the predictions of ``teacher``; ``recompute``: activations, which are else
    kept."""

    model: Path
    adapter: Path
    teacher: Path | None
    quantized: bool
    steps: int
    batch_size: int
    length: int
    recompute: bool = False


def peak_of(recovery: Recovery) -> PhasePeak:
    """The peak of ``recovery`` in a new process, a fork of one that has only imported the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_measure, recovery, torch.get_num_threads()).result()


def _measure(recovery: Recovery, threads: int) -> PhasePeak:
    torch.set_num_threads(threads)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)
    meter = MemoryMeter()
    with meter.phase("recovery"):
        recover(recovery, torch.device("cpu"))
    gc.collect()
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    with meter.phase("libraries"):
        pass
    peak, left = meter.peaks
    return PhasePeak(
        phase=peak.phase, resident=peak.resident - left.resident, anonymous=peak.anonymous - left.anonymous,
        seconds=peak.seconds,
    )  # fmt: skip


def recover(recovery: Recovery, device: torch.device) -> None:
    """Load what ``recovery`` names onto ``device`` and train; nothing is kept."""
    base = load_mixed_model(recovery.model, device=device, dequantize=not recovery.quantized)
    model = attach_adapter(base, recovery.adapter, trainable=True, dtype=torch.float32)
    settings = FinetuneConfig(
        steps=recovery.steps, batch_size=recovery.batch_size, warmup_steps=0,
        activation_checkpointing=recovery.recompute,
    )  # fmt: skip
    distillation = None
    if recovery.teacher is not None:
        distillation = load_teacher(recovery.teacher, settings, device)
    stream = _batches(int(model.config.vocab_size), recovery.batch_size, recovery.length, device)
    train(model, stream, settings, lambda step, loss: None, distillation=distillation)


def _batches(vocabulary: int, size: int, length: int, device: torch.device) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    while True:
        rows = torch.randint(vocabulary, (size, length), generator=generator)
        yield make_batch([[Example(row, row)] for row in rows], device)
