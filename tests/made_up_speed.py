"""The speed of a machine that does not exist, with round figures; imports no torch."""

from __future__ import annotations

from qpruner_core.precision_names import PRECISIONS
from qpruner_core.speed.machine_speed import (
    FileCost,
    FitCost,
    LayerCost,
    LogitCost,
    MachineSpeed,
    Pass,
    PassCost,
    QuantizedCost,
)

_PASSES: dict[Pass, float] = {"forward": 1.0, "adapted": 1.3, "backward": 2.0, "gradients": 4.0, "training": 4.0}


def made_up_speed(key: str = "made-up", *, slowness: float = 1.0) -> MachineSpeed:
    """A machine of about 100 GFLOP/s in forward passes, or so many times as slow."""
    layers = [
        LayerCost(
            weights=weights,
            hidden=hidden,
            passes={
                kind: PassCost(call=5e-4 * factor * slowness, per_token=weights * 2e-11 * factor * slowness)
                for kind, factor in _PASSES.items()
            },
        )
        for weights, hidden in ((50_000, 64), (800_000, 256), (12_500_000, 1024))
    ]
    module = QuantizedCost(call=3e-5 * slowness, per_weight=2e-10 * slowness, per_product=0.0)
    return MachineSpeed(
        key=key,
        machine="Made-up processor, 1 thread",
        gpu=False,
        layers=tuple(layers),
        quantized={"nf4": module, "int8": module, "llm_int8": module},
        logits=LogitCost(loss=5e-10 * slowness, divergence=3e-9 * slowness, distillation=3e-9 * slowness),
        fit=FitCost(module=2e-3 * slowness, column=4e-5 * slowness, weight=4e-8 * slowness, nearest=7e-8 * slowness),
        rounding=dict.fromkeys(PRECISIONS, 5e-08 * slowness),
        files=FileCost(model=7e-3, layer=1e-3, adapters=6e-3, file=2e-4, read_byte=1e-10, write_byte=1e-9),
        product=2e-11 * slowness,
        token=1e-3 * slowness,
        cluster=3e-3 * slowness,
        cluster_value=6e-8 * slowness,
        proposal=2e-2 * slowness,
        collect=0.1,
    )
