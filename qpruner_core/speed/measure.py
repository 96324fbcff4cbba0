"""Measures the machine at hand, in a few seconds."""

from __future__ import annotations

import gc
import hashlib
import json
import platform
from pathlib import Path

import torch

from qpruner_core.resources import best_device
from qpruner_core.speed import parts
from qpruner_core.speed.layers import measure_layers
from qpruner_core.speed.machine_speed import MachineSpeed
from qpruner_core.speed.timing import seconds_of

_REVISION = 1
"""Of what is measured and how: figures of another revision are not comparable."""


def machine_identity(products: str) -> dict[str, str | int]:
    """What the figures depend on: processor, its instructions, threads, torch, device, and the type of products."""
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


def identity_key(identity: dict[str, str | int]) -> str:
    """The digest that tells one machine from another."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def measure_machine(products: str = "bfloat16") -> MachineSpeed:
    """Seconds of the parts of the stages, here and now, with products computed in ``products`` (a torch dtype)."""
    device, dtype = best_device(), getattr(torch, products)
    identity = machine_identity(products)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        layers = tuple(measure_layers(device, dtype))
        product = parts.measure_product(device)
        cluster, cluster_value = parts.measure_clusters()
        forward = layers[0].passes["forward"]
        return MachineSpeed(
            key=identity_key(identity),
            machine=_described(identity),
            gpu=device.type == "cuda",
            layers=layers,
            quantized=parts.measure_quantized(device, dtype),
            logits=parts.measure_logits(device),
            fit=parts.measure_fit(device, product),
            files=parts.measure_files(device),
            product=product,
            token=parts.measure_token(device, dtype, forward.call + forward.per_token),
            cluster=cluster,
            cluster_value=cluster_value,
            proposal=parts.measure_proposal(),
            collect=seconds_of(gc.collect, torch.device("cpu")),
        )


def _described(identity: dict[str, str | int]) -> str:
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
