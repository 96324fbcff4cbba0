"""The largest values of settings: what some machine can serve, so that no request works without end.

They are far beyond what is useful. What is allowed one by one may still be too much together; see
:mod:`qpruner_core.workload`.
"""

from __future__ import annotations

SHORTEST_SEQUENCE = 16
LONGEST_SEQUENCE = 131_072
"""Tokens; the longest that models read today."""
MOST_LAYERS = 1024
"""Decoder layers; the deepest models have some 130. A broken config must not build a model without end."""
WIDEST_MLP = 65_536
"""Channels of an MLP; the largest models have 53,248."""
MOST_SEQUENCES = 16_384
"""Sequences of calibration or validation; results change little beyond a few hundred."""
MOST_CANDIDATES = 20_000
"""Allocations that one proposal compares. Each takes 8 bytes per trial done: 320 MB at 2000 trials."""
MOST_STEPS = 1_000_000
"""Optimiser steps: eleven days at one per second."""
MOST_HELD_OUT_TOKENS = 2**24
"""Tokens that perplexity is measured on, which takes about one forward pass per measured model."""
MOST_CHOICES = 100_000
MOST_GENERATED_TOKENS = 4096
"""Tokens generated one after another, per measured model."""
