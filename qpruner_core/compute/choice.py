"""Choice of the type of matrix products: a setting, or the faster one on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import Field, ValidationError

from qpruner_core.compute.config import Compute, ComputeDtype, ProductDtype
from qpruner_core.compute.processor import processor_name
from qpruner_core.compute.products import products_in
from qpruner_core.one_run import alone
from qpruner_core.source_policy import default_cache_dir
from qpruner_core.strict import StrictModel

_TOKENS, _INPUTS, _OUTPUTS = 128, 256, 256
_REPETITIONS = 4
_ADVANTAGE = 1.25
"""Speed-up from which float32 is chosen. It is at least as exact; the margin keeps results independent of timing noise.
"""


class _Timing(StrictModel):
    """Seconds of forward and backward products in both types."""

    bfloat16: float = Field(gt=0)
    float32: float = Field(gt=0)


def choose_compute(setting: ComputeDtype, device: torch.device, cache_dir: Path) -> Compute:
    """Choose the type of matrix products for ``device``.

    On a CPU ``auto`` times forward and backward products in both types, once per processor and torch version, and keeps
    the result in ``cache_dir`` for later runs. A GPU computes in bfloat16, or in float16 if it has no bfloat16.
    """
    products, reason = _choice(setting, device, cache_dir)
    return Compute(
        products=products, processor=processor_name(device), threads=torch.get_num_threads(), reason=reason
    )  # fmt: skip


@contextmanager
def computing(setting: ComputeDtype = "auto", device: torch.device | str = "cpu") -> Iterator[Compute]:
    """Context manager and decorator: compute matrix products on ``device`` as ``setting`` says.

    Waits for a run in another thread to end.
    """
    with alone():
        compute = choose_compute(setting, torch.device(device), default_cache_dir())
        with products_in(compute.dtype, device):
            yield compute


def _choice(setting: ComputeDtype, device: torch.device, cache_dir: Path) -> tuple[ProductDtype, str]:
    if setting != "auto":
        return setting, "Set by compute_dtype."
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "The GPU supports bfloat16."
        return "float16", "The GPU does not support bfloat16."
    timing = _known_timing(device, cache_dir)
    ratio = timing.bfloat16 / timing.float32
    if ratio > _ADVANTAGE:
        return "float32", f"float32 is {ratio:.1f} times as fast as bfloat16 on this processor."
    return "bfloat16", f"bfloat16 takes {ratio:.2f} of the time of float32 on this processor."


def _known_timing(device: torch.device, cache_dir: Path) -> _Timing:
    """The timing that an earlier process measured on this kind of machine; measured and stored if there is none."""
    machine = [processor_name(device), torch.__version__, os.environ.get("ONEDNN_MAX_CPU_ISA", "")]
    path = cache_dir / "compute" / f"{hashlib.sha256(json.dumps(machine).encode()).hexdigest()[:16]}.json"
    try:
        return _Timing.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        timing = _measure()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as stream:
            stream.write(timing.model_dump_json())
        Path(stream.name).replace(path)
    except OSError:
        pass  # a cache that cannot be written costs the next run some milliseconds
    return timing


def _measure() -> _Timing:
    """Time the forward and backward products of one linear module in both types, alternating."""
    inputs = torch.ones(_TOKENS, _INPUTS, dtype=torch.bfloat16)
    weight = torch.ones(_OUTPUTS, _INPUTS, dtype=torch.bfloat16)
    gradient = torch.ones(_TOKENS, _OUTPUTS, dtype=torch.bfloat16)

    def seconds(dtype: torch.dtype) -> float:
        started = time.perf_counter()
        for left, right in ((inputs, weight.T), (gradient, weight), (gradient.T, inputs)):
            (left.to(dtype) @ right.to(dtype)).to(torch.bfloat16)
        return time.perf_counter() - started

    rounds = [(seconds(torch.bfloat16), seconds(torch.float32)) for _ in range(_REPETITIONS)]
    return _Timing(bfloat16=min(one for one, _ in rounds), float32=min(one for _, one in rounds))
