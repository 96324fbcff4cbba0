"""Identity of a machine, as far as its speed is concerned."""

from __future__ import annotations

import hashlib
import json

import torch

from qpruner_core.compute.processor import processor_name
from qpruner_core.resources import best_device

Identity = dict[str, str | int]
_REVISION = 3
"""Revision of the measurements: figures of another revision are not comparable."""


def machine_identity(products: str) -> Identity:
    """Everything that speeds depend on: processor, its instructions, threads, torch, device, and the type of
    products."""
    device = best_device()
    return {
        "device": device.type,
        "processor": processor_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "products": products,
        "revision": _REVISION,
    }


def identity_key(identity: Identity) -> str:
    """Digest that identifies a machine."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def describe(identity: Identity) -> str:
    """The machine in words."""
    if identity["device"] != "cpu":
        return str(identity["processor"])
    threads = identity["threads"]
    return f"{identity['processor']}, {threads} thread{'s' if threads != 1 else ''}"
