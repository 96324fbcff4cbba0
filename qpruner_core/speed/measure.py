"""Measures this machine, in a few seconds."""

from __future__ import annotations

import gc

import torch

from qpruner_core.compute.products import products_in
from qpruner_core.resources import best_device
from qpruner_core.speed import parts
from qpruner_core.speed.layers import measure_layers
from qpruner_core.speed.machine import describe, identity_key, machine_identity
from qpruner_core.speed.machine_speed import MachineSpeed
from qpruner_core.speed.rounding import measure_rounding
from qpruner_core.speed.timing import seconds_of


def measure_machine(products: str = "bfloat16") -> MachineSpeed:
    """Seconds of the parts of the stages on this machine, with products computed in ``products`` (a torch dtype)."""
    device, dtype = best_device(), torch.bfloat16
    identity = machine_identity(products)
    with torch.random.fork_rng(), torch.enable_grad(), products_in(getattr(torch, products), device):
        torch.manual_seed(0)
        layers = tuple(measure_layers(device, dtype))
        product = parts.measure_product(device)
        cluster, cluster_value = parts.measure_clusters()
        forward = layers[0].passes["forward"]
        return MachineSpeed(
            key=identity_key(identity),
            machine=describe(identity),
            gpu=device.type == "cuda",
            layers=layers,
            quantized=parts.measure_quantized(device, dtype),
            logits=parts.measure_logits(device),
            fit=parts.measure_fit(device, product),
            rounding=measure_rounding(device),
            files=parts.measure_files(device),
            product=product,
            token=parts.measure_token(device, dtype, forward.call + forward.per_token),
            cluster=cluster,
            cluster_value=cluster_value,
            proposal=parts.measure_proposal(),
            collect=seconds_of(gc.collect, torch.device("cpu")),
        )
