"""Which machine this is, as far as its speed goes."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import torch

from qpruner_core.resources import best_device

Identity = dict[str, str | int]
_REVISION = 1
"""Of what is measured and how: figures of another revision are not comparable."""


def machine_identity(products: str) -> Identity:
    """What speeds depend on: processor, its instructions, threads, torch, device, and the type of products."""
    device = best_device()
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "products": products,
        "revision": _REVISION,
    }


def identity_key(identity: Identity) -> str:
    """The digest that tells one machine from another."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def describe(identity: Identity) -> str:
    """The machine in words."""
    if identity["device"] != "cpu":
        return str(identity["device"])
    threads = identity["threads"]
    return f"{identity['processor']} ({identity['instructions']}), {threads} thread{'s' if threads != 1 else ''}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
