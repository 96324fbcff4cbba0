"""Details of an installation for a bug report."""

from __future__ import annotations

import platform
from importlib.metadata import version


def diagnostics() -> dict[str, str]:
    """Versions, device and type of products by name, in reading order."""
    import torch

    from qpruner_core.compute.choice import choose_compute
    from qpruner_core.resources import best_device
    from qpruner_core.source_policy import default_cache_dir

    device = best_device()
    compute = choose_compute("auto", device, default_cache_dir())
    return {
        "qpruner": version("qpruner"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in ("transformers", "peft", "bitsandbytes")},
        "device": device.type,
        "processor": compute.processor,
        "threads": str(compute.threads),
        "compute_dtype": f"{compute.products} ({compute.reason.rstrip('.')})",
    }
