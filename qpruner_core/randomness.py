"""Where all that is random in a run comes from."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from qpruner_core.events import StageName


def seed_everything(seed: int, stage: StageName) -> None:
    """Start every random number generator anew, so that a stage does not depend on which ran before it here."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{stage}".encode()).digest()[:4])
    random.seed(number)
    np.random.seed(number)  # scikit-learn and scikit-optimize fall back on it
    torch.manual_seed(number)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # By default that also fills each new tensor, which takes as long as a third of the products on a CPU
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
