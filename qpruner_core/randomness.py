"""Source of all randomness in a run."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from qpruner_core.events import StageName


def seed_everything(seed: int, stage: StageName) -> None:
    """Seed every random number generator, so that a stage does not depend on earlier ones in this process."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{stage}".encode()).digest()[:4])
    random.seed(number)
    np.random.seed(number)  # scikit-learn and scikit-optimize fall back to it
    torch.manual_seed(number)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # By default this also fills each new tensor, which takes as long as a third of the products on a CPU
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
